"""What a scraper (Prometheus) is shown: the names, and how tallies become numbers that only grow.

Ray's exporter prefixes each name with `ray_`. All are exported as Ray's gauges, those that only grow too, because of
what Ray 2.60 does with the other kinds: its counters of a deployment that is gone stay until the node ends, and its
histograms are rebuilt in the exporter's process one observation at a time, at the middle of its bucket
(decisions/0008). A gauge that nobody sets any more is gone within half a minute. `rate` and `histogram_quantile` ask a
name and the label `le`, and no kind.

Labels name a deployment, its model and its region, never an organization: whoever may scrape is an operator.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.core.histograms import Histogram, bucket_of
from fyretoolkit.core.metrics import Tally

BOUNDS_MS = (
    0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10_000, 30_000
)  # fmt: skip
"""Of latencies: up to the longest deadline a default configuration allows, closest where answers usually lie."""
_BUCKETS = [bucket_of(bound) for bound in BOUNDS_MS]
_LE = (*(f"{bound:g}" for bound in BOUNDS_MS), "+Inf")

_SERVED = ("deployment", "model", "region")
_CODES_FROM_THE_START = (
    "ok", "canceled", "deadline_exceeded", "internal_error", "overloaded", "rate_limit_exceeded", "unavailable"
)  # fmt: skip
"""Shown as 0 before the first: a rate needs something to grow from."""
_STATUS_OF_CANCELED = 499


@dataclass(frozen=True, slots=True)
class Series:
    """One name that is shown."""

    description: str
    labels: tuple[str, ...] = ()


def _distribution(name: str, what: str) -> dict[str, Series]:
    return {
        f"{name}_bucket": Series(f"{what}: how many took at most `le` milliseconds.", (*_SERVED, "le")),
        f"{name}_sum": Series(f"{what}: milliseconds together.", _SERVED),
        f"{name}_count": Series(f"{what}: how many.", _SERVED),
    }


SERIES: Mapping[str, Series] = {
    "fyre_predictions_total": Series(
        "Predictions that ended, by code of the error catalogue (`ok`, `canceled`: none) and HTTP status.",
        (*_SERVED, "code", "status"),
    ),
    **_distribution(
        "fyre_prediction_latency_ms", "Predictions answered with results, request read to answer made"
    ),
    **_distribution("fyre_prediction_queue_ms", "What these waited beyond the inference"),
    **_distribution("fyre_prediction_compute_ms", "The inferences they were part of"),
    "fyre_prediction_inputs_total": Series("Inputs of the predictions answered with results.", _SERVED),
    "fyre_prediction_batch_rows_total": Series(
        "Sum over these predictions of the rows in the inference each was part of.", _SERVED
    ),
    "fyre_prediction_queue_length": Series("Requests that wait in this ingress's queue now.", _SERVED),
    "fyre_predictions_without_redis_total": Series(
        "Predictions admitted on the tokens granted last, because Redis was away."
    ),
    "fyre_ingress_redis_up": Series("Whether this ingress reached Redis a second ago: 1 or 0."),
    "fyre_deployments": Series("Deployments that are not deleted.", ("status",)),
    "fyre_deployment_replicas": Series(
        "Replicas of a deployment, as the controller last saw them.", (*_SERVED, "state")
    ),
    "fyre_provisioning_age_seconds": Series(
        "How long the oldest deployment that is provisioning has been; 0: none."
    ),
    "fyre_jobs": Series("Batch jobs that have not ended.", ("status",)),
    "fyre_webhook_deliveries": Series(
        "Webhooks that wait for an attempt, and that are being sent.", ("state",)
    ),
    "fyre_webhook_attempts_total": Series(
        "Attempts to deliver a webhook: taken (2xx), refused (any other answer) or unanswered.", ("outcome",)
    ),
    "fyre_inspections": Series("Models being inspected now."),
    "fyre_standby_replicas": Series(
        "Replicas without a model that are to stand by, and that do.", ("state",)
    ),
    "fyre_controller_silence_seconds": Series("Since the slowest of the controller's loops last looked."),
    "fyre_replica_busy_ratio": Series("Share of time a replica's model computes, 0 to 1.", _SERVED),
}
"""By name, without Ray's prefix."""


class Served(NamedTuple):
    """Whose numbers they are."""

    deployment: str
    model: str
    region: str


OTHERS = Served("other", "other", "other")
"""Those that there are too many of."""


class Sample(NamedTuple):
    """One number to show."""

    name: str
    value: float
    labels: Mapping[str, str]


@dataclass(slots=True)
class Distribution:
    """Values by the bounds above, as Prometheus counts them. A value within 2% of a bound may count on either side."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_LE))
    sum: float = 0.0

    def add(self, histogram: Histogram) -> None:
        """Add what a histogram recorded."""
        for bucket, count in histogram.counts.items():
            self.counts[bisect_left(_BUCKETS, bucket)] += count
        self.sum += histogram.sum

    def copy(self) -> Distribution:
        """One that is added to alone."""
        return Distribution(self.counts.copy(), self.sum)

    def samples(self, name: str, labels: Mapping[str, str]) -> Iterator[Sample]:
        """As a histogram is shown: each bucket holds those below it too."""
        count = 0
        for le, count in zip(_LE, accumulate(self.counts), strict=True):
            yield Sample(f"{name}_bucket", count, {**labels, "le": le})
        yield Sample(f"{name}_sum", self.sum, labels)
        yield Sample(f"{name}_count", count, labels)


@dataclass(slots=True)
class Totals:
    """All predictions of one deployment since a process began; they never shrink."""

    codes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_CODES_FROM_THE_START, 0))
    inputs: int = 0
    batch_rows: int = 0
    total: Distribution = field(default_factory=Distribution)
    queue: Distribution = field(default_factory=Distribution)
    compute: Distribution = field(default_factory=Distribution)

    def add(self, tally: Tally) -> None:
        """Add the traffic of some time."""
        codes = self.codes
        codes["ok"] += tally.succeeded
        codes["canceled"] += tally.canceled
        for code, count in tally.errors.items():
            codes[code] = codes.get(code, 0) + count
        self.inputs += tally.inputs
        self.batch_rows += tally.batch_rows
        self.total.add(tally.total)
        self.queue.add(tally.queue)
        self.compute.add(tally.compute)

    def copy(self) -> Totals:
        """One that is added to alone."""
        return Totals(
            codes=self.codes.copy(),
            inputs=self.inputs,
            batch_rows=self.batch_rows,
            total=self.total.copy(),
            queue=self.queue.copy(),
            compute=self.compute.copy(),
        )

    def samples(self, served: Served) -> Iterator[Sample]:
        """Everything, to show."""
        labels = served._asdict()
        for code, count in self.codes.items():
            yield Sample(
                "fyre_predictions_total", count, {**labels, "code": code, "status": str(_status_of(code))}
            )
        yield from self.total.samples("fyre_prediction_latency_ms", labels)
        yield from self.queue.samples("fyre_prediction_queue_ms", labels)
        yield from self.compute.samples("fyre_prediction_compute_ms", labels)
        yield Sample("fyre_prediction_inputs_total", self.inputs, labels)
        yield Sample("fyre_prediction_batch_rows_total", self.batch_rows, labels)


def _status_of(code: str) -> int:
    if code == "ok":
        return 200
    return _STATUS_OF_CANCELED if code == "canceled" else CATALOGUE[code].status
