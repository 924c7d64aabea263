"""What is counted of a deployment's predictions, and the periods it is shown for.

A tally is the traffic of one deployment in one bucket of time; tallies of processes and of buckets merge into one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fyretoolkit.core.histograms import Histogram

REJECTED = frozenset(("rate_limit_exceeded", "overloaded"))
"""Codes that refuse a prediction before it is run; every other code is a failure."""


class Period(StrEnum):
    """How far back to look."""

    FIVE_MINUTES = "5m"
    """In buckets of 5 seconds."""
    HOUR = "1h"
    """In buckets of a minute."""
    DAY = "24h"
    """In buckets of 15 minutes."""
    WEEK = "7d"
    """In buckets of 2 hours."""

    @property
    def length_s(self) -> int:
        """Seconds of the period."""
        return _LENGTH_AND_BUCKET_S[self][0]

    @property
    def bucket_s(self) -> int:
        """Seconds of one bucket."""
        return _LENGTH_AND_BUCKET_S[self][1]

    @property
    def kept_s(self) -> int:
        """How long after its start a bucket is kept: until no window can hold it, and a bucket more."""
        return self.length_s + self.bucket_s


_LENGTH_AND_BUCKET_S = {
    Period.FIVE_MINUTES: (300, 5),
    Period.HOUR: (3600, 60),
    Period.DAY: (86_400, 900),
    Period.WEEK: (604_800, 7200),
}
LONGEST_KEPT_S = max(period.kept_s for period in Period)


@dataclass(frozen=True, slots=True)
class Window:
    """A period that ends now, and the buckets that begin within it. Times are Unix seconds.

    The bucket that still fills is the last of them. The one in which the period began is left out: nothing older than
    the period is shown, and of its oldest traffic less than a bucket's is missing.
    """

    end: int
    length_s: int
    bucket_s: int

    @classmethod
    def of(cls, period: Period, now_s: float) -> Window:
        """The window of a period."""
        return cls(int(now_s), period.length_s, period.bucket_s)

    @property
    def start(self) -> int:
        """Where the period begins."""
        return self.end - self.length_s

    @property
    def starts(self) -> range:
        """The start of each bucket, oldest first."""
        first = -(-self.start // self.bucket_s) * self.bucket_s
        return range(first, self.end + 1, self.bucket_s)


@dataclass(slots=True)
class Tally:
    """The predictions of one deployment in some time. Durations are milliseconds, of those that succeeded."""

    canceled: int = 0
    inputs: int = 0
    """Of the predictions that succeeded."""
    batch_rows: int = 0
    """Sum over the predictions that succeeded of the rows in their (largest) inference."""
    errors: dict[str, int] = field(default_factory=dict)
    """By code, rejections included."""
    total: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    compute: Histogram = field(default_factory=Histogram)

    def add_answer(
        self, *, total_ms: float, queue_ms: float, compute_ms: float, inputs: int, batch_rows: int
    ) -> None:
        """Count a prediction that was answered with a result."""
        self.total.add(total_ms)
        self.queue.add(queue_ms)
        self.compute.add(compute_ms)
        self.inputs += inputs
        self.batch_rows += batch_rows

    def add_error(self, code: str) -> None:
        """Count a prediction that was answered with an error."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def merge(self, other: Tally) -> None:
        """Add the traffic of another one."""
        self.canceled += other.canceled
        self.inputs += other.inputs
        self.batch_rows += other.batch_rows
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        self.total.merge(other.total)
        self.queue.merge(other.queue)
        self.compute.merge(other.compute)

    @classmethod
    def union(cls, tallies: Iterable[Tally]) -> Tally:
        """The traffic of several, as one."""
        merged = cls()
        for tally in tallies:
            merged.merge(tally)
        return merged

    @property
    def succeeded(self) -> int:
        """Predictions that were answered with a result."""
        return self.total.count

    @property
    def rejected(self) -> int:
        """Predictions that were refused before they were run."""
        return sum(count for code, count in self.errors.items() if code in REJECTED)

    @property
    def failed(self) -> int:
        """Predictions that were answered with any other error."""
        return sum(count for code, count in self.errors.items() if code not in REJECTED)

    @property
    def requests(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.rejected + self.canceled
