"""Requests that travel in one call: what each brings, and what each gets back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from fyretoolkit.core.fair_queue import Ticket
from fyretoolkit.core.organizations import Principal
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.replica import ReplicaAnswer

Arrays = Mapping[str, np.ndarray]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
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


Answered = Callable[[Share | BaseException], None]
"""Is told a request's share, or why there is none: `asyncio.CancelledError` if its caller went away."""


def _unheard(_: Share | BaseException) -> None:
    """Nobody waits yet."""


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
    answered: Answered = _unheard
    weight: float = 1.0
    """Its organization's share beside others."""
    tries: int = 0
    is_done: bool = False
    """It has its answer, or wants none any more."""
    ticket: Ticket[Request] | None = None
    """Its place in the queue, once it had one."""
    call: Call | None = None
    """That it is part of."""
    parts: Sequence[Request] = ()
    """That it waits in, if its rows do not fit into one call."""
    ending_with: set[Request] | None = None
    """Those whose deadlines pass together with its own (`serving.expiries`)."""

    def finish(self, outcome: Share | BaseException) -> None:
        """Answer it, once. A caller's own failure to take the answer is its own."""
        if self.is_done:
            return
        self.is_done = True
        self.parts = ()  # which lead back to it: a circle otherwise
        try:
            self.answered(outcome)
        except Exception:
            logger.exception("An answer could not be given")

    def split(self, rows: int, give_up: Callable[[Request], None]) -> Sequence[Request]:
        """Requests of at most so many rows each, whose answers together are this one's.

        If one fails so does this, and `give_up` is called with each of the others.
        """
        gathering = _Gathering(self, rows, give_up)
        self.parts = [
            replace(
                self,
                arrays={name: array[start : start + rows] for name, array in self.arrays.items()},
                rows=min(rows, self.rows - start),
                size=self.size * rows // self.rows,
                answered=partial(gathering.add, start // rows),
            )
            for start in range(0, self.rows, rows)
        ]
        return self.parts


class _Gathering:
    """The answers to the parts of a request, as they come."""

    def __init__(self, whole: Request, rows: int, give_up: Callable[[Request], None]) -> None:
        self._whole = whole
        self._rows = rows
        self._give_up = give_up
        self._shares: dict[int, Share] = {}

    def add(self, number: int, outcome: Share | BaseException) -> None:
        """The answer to one part."""
        whole, parts = self._whole, self._whole.parts
        if isinstance(outcome, BaseException):
            whole.finish(outcome)
            for part in parts:
                self._give_up(part)
            return
        self._shares[number] = outcome
        if len(self._shares) == len(parts):
            shares = [self._shares[number] for number in range(len(parts))]
            whole.finish(Share.joined(shares, self._rows))


@dataclass(slots=True, eq=False)
class Call:
    """Requests that run together."""

    requests: Sequence[Request]
    began: float
    """By the clock of its coalescer."""
    answer: asyncio.Future[ReplicaAnswer] | None = None
    """Until it is here."""
    has_left: bool = False
    """A replica has it, and is not free before it has answered, whoever waits."""
    rows: int = field(init=False)
    """Of all requests."""

    def __post_init__(self) -> None:
        self.rows = sum([request.rows for request in self.requests])

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(request.is_done for request in self.requests)


def shares_of(
    batch: Sequence[Request], answer: ReplicaAnswer, *, size: int
) -> Iterator[tuple[Request, Share]]:
    """Each request with its part of what came back for all, in order; `size`: rows of one inference."""
    by_row = dict(zip(answer.kept, answer.results, strict=True)) if answer.failed else {}
    start = 0
    for request in batch:
        end = start + request.rows
        if not answer.failed:
            results = answer.results[start:end]
            yield request, Share(results, range(request.rows), {}, answer.compute_ms, size)
        else:
            kept = [row for row in range(request.rows) if start + row in by_row]
            failed = {
                row: answer.failed[start + row] for row in range(request.rows) if start + row in answer.failed
            }
            results = [by_row[start + row] for row in kept]
            yield request, Share(results, kept, failed, answer.compute_ms, size)
        start = end
