"""Requests that travel in one call: what each brings, and what each gets back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fyretoolkit.core.organizations import Principal
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.replica import ReplicaAnswer

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Share:
    """What one request gets of a call: row `kept[i]` of its arrays has `results[i]`, every other is in `failed`."""

    results: Sequence[bytes]
    kept: Sequence[int]
    failed: Mapping[int, str]
    compute_ms: float
    batch_size: int
    """Rows of the largest inference it was part of."""

    @classmethod
    def joined(cls, shares: Sequence[Share], rows: int) -> Share:
        """The share of a request whose parts, of `rows` rows each but the last, have these."""
        results = [result for share in shares for result in share.results]
        kept = [number * rows + row for number, share in enumerate(shares) for row in share.kept]
        failed = {
            number * rows + row: why
            for number, share in enumerate(shares)
            for row, why in share.failed.items()
        }
        compute_ms = sum(share.compute_ms for share in shares)
        return cls(results, kept, failed, compute_ms, max(share.batch_size for share in shares))


@dataclass(slots=True, eq=False)
class Request:
    """Rows of one caller, to be run together or with others'."""

    arrays: Arrays
    rows: int
    shape: object
    """Requests of equal shape can be joined (`Codec.shape_of`)."""
    size: int
    """Bytes it holds while it waits, about."""
    principal: Principal
    deadline: Deadline
    is_abandoned: Callable[[], bool]
    """Whether nobody waits for the answer any more."""
    weight: float = 1.0
    """Its organization's share beside others."""
    answer: asyncio.Future[Share] = field(init=False)
    tries: int = 0
    call: Call | None = None
    """The one that it is part of."""

    def __post_init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()

    def in_parts(self, rows: int) -> list[Request]:
        """Requests of at most so many rows that are this one together."""
        return [
            replace(
                self,
                arrays={name: array[start : start + rows] for name, array in self.arrays.items()},
                rows=min(rows, self.rows - start),
                size=self.size * rows // self.rows,
            )
            for start in range(0, self.rows, rows)
        ]

    def fail(self, error: Exception) -> None:
        """Unless it has its answer."""
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True, eq=False)
class Call:
    """Requests that run together."""

    requests: Sequence[Request]
    task: asyncio.Task[None] | None = None
    rows: int = field(init=False)
    """Of all requests."""

    def __post_init__(self) -> None:
        self.rows = sum(request.rows for request in self.requests)

    def cancel_if_unwanted(self) -> None:
        """Nobody waits for it any more: its slot is for others."""
        if self.task is not None and all(request.answer.done() for request in self.requests):
            self.task.cancel()


def share_out(batch: Sequence[Request], answer: ReplicaAnswer, *, size: int) -> None:
    """Give each request its part of what came back for all, in order; `size`: rows of one inference."""
    by_row = dict(zip(answer.kept, answer.results, strict=True)) if answer.failed else {}
    start = 0
    for request in batch:
        end = start + request.rows
        if request.answer.done():
            share = None
        elif not answer.failed:
            share = Share(answer.results[start:end], range(request.rows), {}, answer.compute_ms, size)
        else:
            kept = [row for row in range(request.rows) if start + row in by_row]
            failed = {
                row: answer.failed[start + row] for row in range(request.rows) if start + row in answer.failed
            }
            results = [by_row[start + row] for row in kept]
            share = Share(results, kept, failed, answer.compute_ms, size)
        if share is not None:
            request.answer.set_result(share)
        start = end
