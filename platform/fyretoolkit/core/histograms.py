"""Histograms that merge: logarithmic buckets, so that every percentile is within 1% of a value that was recorded.

Value x falls into bucket ceil(log_gamma(x)), and a bucket answers with the value that is at most `RELATIVE_ERROR` from
all it can hold. Merging adds counts, so a histogram of histograms is exact: percentiles of several processes and
minutes are never averaged. Rejected: fixed boundaries (the error depends on where the values lie) and t-digest (merging
in another order gives another answer). Source: Masson, Rim, Lee, "DDSketch", VLDB 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

RELATIVE_ERROR = 0.0099
"""Of every percentile; just under the 1% that is promised, which leaves room for floating point."""
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BUCKETS_PER_E = 1 / math.log(_GAMMA)
_SMALLEST = 1e-6
ZERO_BUCKET = -10_000
"""Holds what is too small to tell from zero: values below 1e-6, negative ones too."""


def bucket_of(value: float) -> int:
    """The bucket that a finite value falls into; that of a greater value is the same or a greater one."""
    return math.ceil(math.log(value) * _BUCKETS_PER_E) if value >= _SMALLEST else ZERO_BUCKET


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, with the exact sum and greatest of the values. The unit is the caller's."""

    counts: dict[int, int] = field(default_factory=dict)
    sum: float = 0.0
    max: float = 0.0

    def add(self, value: float) -> None:
        """Record a finite value. Costs a logarithm and a dictionary entry."""
        # bucket_of, written out: a call would cost as much as the logarithm
        bucket = math.ceil(math.log(value) * _BUCKETS_PER_E) if value >= _SMALLEST else ZERO_BUCKET
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        self.sum += value
        if value > self.max:  # noqa: PLR1730 - a call of max() would cost as much as the logarithm
            self.max = value

    def merge(self, other: Histogram) -> None:
        """Add what another one recorded, as if it had been recorded here."""
        counts = self.counts
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        self.sum += other.sum
        self.max = max(self.max, other.max)

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.counts.values())

    @property
    def mean(self) -> float | None:
        """None without values."""
        count = self.count
        return self.sum / count if count else None

    def percentiles(self, *percents: int) -> list[float | None]:
        """For each percent p the ceil(n x p / 100)-th smallest of n values (nearest rank), within `RELATIVE_ERROR`.

        `percents` are 1 to 100, in ascending order. None without values.
        """
        count = self.count
        if not count:
            return [None] * len(percents)
        found: list[float | None] = []
        ranks = [-(-count * percent // 100) for percent in percents]
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            while len(found) < len(ranks) and ranks[len(found)] <= seen:
                found.append(min(_value_of(bucket), self.max))
        return found


def _value_of(bucket: int) -> float:
    """The value nearest, in relation, to all that fall into the bucket."""
    return 0.0 if bucket == ZERO_BUCKET else 2 * _GAMMA**bucket / (_GAMMA + 1)
