"""Where requests for one deployment wait: in fair order, within bounds, each until its deadline at the latest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from fyretoolkit.core.fair_queue import FairQueue
from fyretoolkit.serving.expiries import Expiries
from fyretoolkit.serving.gate import Gate, Queued
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.settings import ServingSettings

_MAX_CALL_BYTES = 16 << 20
"""Of the bodies that are joined; gRPC has a bound too (`launch/environment.py`)."""


class WaitingRoom:
    """The queue of one coalescer, and who may join it. Belongs to one event loop."""

    def __init__(self, settings: ServingSettings, gate: Gate, expire: Callable[[Request], None]) -> None:
        """`expire` is called with a request whose deadline passed before it was `done`, in the queue or after it."""
        self._settings = settings
        self._gate = gate
        self._expiries = Expiries(expire)
        self._bytes: dict[str, int] = {}
        """That wait, by organization."""
        self._all_bytes = 0
        self.queue: FairQueue[Request] = FairQueue()

    def enter(self, request: Request) -> None:
        """It waits now."""
        org, size = request.principal.org, request.size
        request.ticket = self.queue.put(org, request, request.rows, request.weight)
        self._bytes[org] = self._bytes.get(org, 0) + size
        self._all_bytes += size
        self._expiries.add(request)

    def leave(self, request: Request) -> None:
        """It waits no longer, wherever it did, and needs no end at its deadline."""
        self._expiries.discard(request)
        ticket, request.ticket = request.ticket, None
        if ticket is not None and self.queue.remove(ticket):
            self._release(request)

    def finish(self, request: Request, outcome: Share | BaseException) -> None:
        """Answer a request that was taken."""
        self._expiries.discard(request)
        request.finish(outcome)

    def take(self, limit: int) -> list[Request]:
        """The next requests, of at most so many rows together, that can be joined; some may be done by now.

        Nobody's who has gone, and none whose deadline has passed.
        """
        rows, size = 0, 0
        shape: object = None
        ends_at, now, rate = inf, time.monotonic(), self._gate.rate

        def is_fitting(request: Request) -> bool:
            nonlocal rows, size, shape, ends_at
            all_rows, all_bytes = rows + request.rows, size + request.size
            ends_at = min(ends_at, request.deadline.ends_at)
            if rows and (
                all_rows > limit
                or all_bytes > _MAX_CALL_BYTES
                or request.shape != shape
                or now + rate.seconds_for(all_rows) > ends_at
            ):
                return False
            rows, size, shape = all_rows, all_bytes, request.shape
            return True

        batch = list(self.queue.take(is_fitting))
        for request in batch:
            request.ticket = None
            self._release(request)
            if request.is_abandoned():
                self.finish(request, asyncio.CancelledError())
            elif request.deadline.ends_at <= now:
                self.finish(request, request.deadline.exceeded())
        return batch

    def close(self) -> None:
        """Nobody's deadline is waited for any more."""
        self._expiries.close()

    def obstacle(
        self, org: str, weight: float, size: int, left_s: float, *, running_rows: float, rows_next: float
    ) -> Queued | None:
        """What keeps a request of so many bytes out, which has `left_s` until its deadline; None if it may join.

        `running_rows`: of calls in flight; `rows_next` as in `Queued`.
        """
        if self._is_free_for_all(size, left_s, running_rows):
            return None
        queue = self.queue
        queued = Queued(
            org=org,
            share=queue.share_of(org, weight),
            rows_ahead=running_rows + queue.ahead_of(org, weight),
            rows_next=rows_next,
            requests=len(queue),
            bytes=self._all_bytes,
            own_requests=queue.count_of(org),
            own_bytes=self._bytes.get(org, 0),
        )
        return None if self._gate.is_open(queued, size=size, left_s=left_s) else queued

    def _is_free_for_all(self, size: int, left_s: float, running_rows: float) -> bool:
        """Whether the gate is open whoever asks, since all that there is leaves time and room: no share is needed."""
        wait_s = self._gate.rate.seconds_for(running_rows + self.queue.cost)
        return (
            wait_s <= self._settings.max_wait_s
            and wait_s <= left_s
            and len(self.queue) < self._settings.max_queued
            and self._all_bytes + size <= self._settings.max_queued_bytes
        )

    def _release(self, request: Request) -> None:
        """Its bytes wait no longer."""
        org = request.principal.org
        self._all_bytes -= request.size
        left = self._bytes.get(org, 0) - request.size
        if left > 0:
            self._bytes[org] = left
        else:
            self._bytes.pop(org, None)
