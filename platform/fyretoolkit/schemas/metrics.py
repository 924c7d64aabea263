"""The metrics of a deployment on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fyretoolkit.core.histograms import Histogram
from fyretoolkit.core.metrics import Period, Tally, Window
from fyretoolkit.schemas.wire import RequestModel, Resource


class MetricsQuery(RequestModel):
    """`?period=`. Query values are text, so an enum is read from it."""

    model_config = ConfigDict(strict=False)

    period: Annotated[Period, Field(description="How far back to look.")] = Period.HOUR


class RequestCounts(Resource):
    """Predictions that were routed to the deployment, by how they ended."""

    total: int
    """All of them."""
    succeeded: Annotated[int, Field(description="Answered with 200, those with failed items included.")]
    failed: Annotated[
        int, Field(description="Answered with an error: input that does not fit, a deadline, …")
    ]
    rejected: Annotated[int, Field(description="Refused before they were run: rate limit, overload.")]
    canceled: Annotated[int, Field(description="The client went away.")]
    per_second: Annotated[float, Field(description="`total` by the seconds from `start` to `end`.")]


class Distribution(Resource):
    """Milliseconds; null without a prediction that succeeded. Percentiles are within 1%, mean and max exact."""

    mean: float | None
    """In ms."""
    p50: float | None
    """The median, in ms."""
    p90: float | None
    """In ms."""
    p95: float | None
    """In ms."""
    p99: float | None
    """In ms."""
    max: float | None
    """The longest, in ms."""

    @classmethod
    def of(cls, histogram: Histogram) -> Distribution:
        """The figures of a histogram. Percentiles are by nearest rank: a value that was, within 1%, recorded."""
        mean, largest = histogram.mean, histogram.max
        p50, p90, p95, p99 = map(_rounded, histogram.percentiles(50, 90, 95, 99))
        top = None if mean is None else largest
        return cls(mean=_rounded(mean), p50=p50, p90=p90, p95=p95, p99=p99, max=_rounded(top))


class Latency(Resource):
    """Of the predictions that succeeded, as their `usage` said it."""

    total: Distribution
    """The whole request."""
    queue: Annotated[Distribution, Field(description="Waiting, and the way to the replica and back.")]
    compute: Annotated[Distribution, Field(description="The inference.")]


class Errors(Resource):
    """What went wrong."""

    rate: Annotated[float, Field(ge=0, le=1, description="`failed` by `total`; 0 without traffic.")]
    by_code: Annotated[dict[str, int], Field(description="Failed and rejected predictions by error code.")]


class Throughput(Resource):
    """Of the predictions that succeeded."""

    inputs: Annotated[int, Field(description="Items, those that failed by themselves included.")]
    inputs_per_second: float
    """`inputs` by the seconds from `start` to `end`."""
    mean_batch_size: Annotated[
        float | None,
        Field(description="Mean over predictions of the rows in their inference; null without one."),
    ]


class SeriesPoint(Resource):
    """One bucket of time."""

    start: int
    """When the bucket began, in Unix seconds."""
    requests: int
    """Predictions that ended in it."""
    failed: int
    """Those answered with an error."""
    p50: Annotated[float | None, Field(description="Of the total latency, in ms.")]
    p99: float | None
    """The same, of 99 in 100."""


class Figures(Resource):
    """Everything that is counted."""

    requests: RequestCounts
    """Predictions by how they ended."""
    latency: Latency
    """How long they took."""
    errors: Errors
    """What went wrong."""
    throughput: Throughput
    """What was done."""
    series: Annotated[
        list[SeriesPoint], Field(description="Every bucket, newest last; the newest still fills.")
    ]


class MetricsResource(Resource):
    """What a deployment did in the period from `start` to `end` (Unix seconds), by the buckets that begin within it."""

    deployment_id: str
    """The deployment's id."""
    object: Literal["metrics"] = "metrics"
    """Always `metrics`."""
    period: Period
    """How far back this looks."""
    start: int
    """Unix seconds; `end` less the period."""
    end: int
    """Now, in Unix seconds."""
    metrics: Figures
    """The figures."""

    @classmethod
    def of(
        cls, deployment_id: str, period: Period, *, window: Window, tallies: Sequence[Tally]
    ) -> MetricsResource:
        """The figures of a window; `tallies` has one entry for each of its buckets, oldest first."""
        series = [_point(start, tally) for start, tally in zip(window.starts, tallies, strict=True)]
        return cls(
            deployment_id=deployment_id,
            period=period,
            start=window.start,
            end=window.end,
            metrics=_figures(Tally.union(tallies), window, series),
        )


def _figures(tally: Tally, window: Window, series: list[SeriesPoint]) -> Figures:
    requests, succeeded = tally.requests, tally.succeeded
    return Figures(
        requests=RequestCounts(
            total=requests,
            succeeded=succeeded,
            failed=tally.failed,
            rejected=tally.rejected,
            canceled=tally.canceled,
            per_second=_figure(requests / window.length_s),
        ),
        latency=Latency(
            total=Distribution.of(tally.total),
            queue=Distribution.of(tally.queue),
            compute=Distribution.of(tally.compute),
        ),
        errors=Errors(
            rate=_figure(tally.failed / requests) if requests else 0.0,
            by_code=dict(sorted(tally.errors.items())),
        ),
        throughput=Throughput(
            inputs=tally.inputs,
            inputs_per_second=_figure(tally.inputs / window.length_s),
            mean_batch_size=_figure(tally.batch_rows / succeeded) if succeeded else None,
        ),
        series=series,
    )


def _point(start: int, tally: Tally) -> SeriesPoint:
    p50, p99 = map(_rounded, tally.total.percentiles(50, 99))
    return SeriesPoint(start=start, requests=tally.requests, failed=tally.failed, p50=p50, p99=p99)


def _figure(value: float) -> float:
    """Six significant digits: decimals would cut what is far below a millisecond to nothing."""
    return float(f"{value:.6g}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else _figure(value)
