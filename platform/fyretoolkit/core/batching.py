"""How many rows a deployment runs in one inference: the record of it, and the choice from what was measured.

Joining rows must earn its place. It gives a small network twenty times the rows, some vision models fewer, and to a
dynamically quantized model, which takes its scale from the whole batch, other answers. So each deployment's own
figures decide; the rejected alternative, one size for all, is right for none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CALL_OVERHEAD_S = 0.001
"""What a call of a replica costs beside its inference, about. Rows that share a call share it."""
_NEARLY = 0.95
_FIGURES = 4


class BatchingReason(StrEnum):
    """Why a deployment has its `max_batch_size`."""

    MEASURED = "measured"
    """The smallest size at which it answers nearly as many rows a second as at the best one."""
    MANIFEST = "manifest"
    """Its model.yaml says so."""
    DEPENDS_ON_COMPANY = "depends_on_company"
    """A row's answer is another one beside other rows: each runs alone."""
    FIXED_BATCH_AXIS = "fixed_batch_axis"
    """The graph takes one row: it says so, or a run of two fails."""


@dataclass(frozen=True, slots=True)
class Batching:
    """The rows of one inference, and what that was decided from."""

    max_batch_size: int
    reason: BatchingReason
    rows_per_s: Mapping[int, float]
    """Rows a second by size, the call's overhead not counted; the sizes that were tried."""
    max_difference: float | None = None
    """The largest difference between a number answered alone and in company; a label or text that differs counts as 1.

    None: a run of several rows is not possible.
    """

    def to_json(self) -> dict[str, object]:
        """A JSON-ready dict; `from_json` reads it back."""
        return {
            "max_batch_size": self.max_batch_size,
            "reason": self.reason.value,
            "rows_per_s": {str(size): rate for size, rate in self.rows_per_s.items()},
            "max_difference": self.max_difference,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batching:
        """The inverse of `to_json`."""
        return cls(
            int(value["max_batch_size"]),
            BatchingReason(value["reason"]),
            {int(size): float(rate) for size, rate in value["rows_per_s"].items()},
            value["max_difference"],
        )


def sizes_up_to(most: int) -> list[int]:
    """1, 2, 4, 8 … and `most` itself."""
    sizes = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*sizes, most]


def useful_rows_per_s(size: int, seconds: float) -> float:
    """Rows a second at calls of `size` rows of which each inference takes `seconds`, the call's overhead counted."""
    return size / (seconds + CALL_OVERHEAD_S)


def choose_size(seconds: Mapping[int, float]) -> int:
    """The smallest size whose useful rows a second are within 5% of the best.

    `seconds`: what an inference of each size takes; at least one. Small batches are quick batches: what the last
    few percent would give is not worth that every row waits for more neighbours.
    """
    rates = {size: useful_rows_per_s(size, each) for size, each in seconds.items()}
    return min(size for size, rate in rates.items() if rate >= _NEARLY * max(rates.values()))


def rates_of(seconds: Mapping[int, float]) -> dict[int, float]:
    """Rows a second by size, to four figures."""
    return {size: float(f"{size / each:.{_FIGURES}g}") for size, each in seconds.items()}
