"""Joins the predictions of many callers into few calls of replicas.

Requests for one deployment that arrive while calls are in flight wait in one queue; when a call ends, what waits is
joined into one array and sent as one call. There is no timer: batches come from back-pressure, so a quiet system adds
no delay and a busy one has full batches. The rejected alternative, waiting a few milliseconds for company
(`@serve.batch`), costs those milliseconds when nobody comes and makes batches too small when everybody does.

Callers share the queue by organization (`core.fair_queue`). A request that would wait too long is refused at once
(`core.admission`), one whose deadline passes leaves the queue unrun, one whose client went away is dropped. A replica
that dies fails nobody: what it held is run once more elsewhere, each request in a call of its own, so that one that
kills replicas harms no neighbour twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

from fyretoolkit.core.admission import ServiceRate
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.fair_queue import FairQueue, Ticket
from fyretoolkit.serving.gate import Gate, Queued
from fyretoolkit.serving.joining import Call, Request, Share, share_out
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaCall, ReplicaLostError
from fyretoolkit.serving.routing import Route
from fyretoolkit.settings import ServingSettings

_MAX_TRIES = 2
_MAX_CALL_BYTES = 16 << 20
"""Of the bodies that are joined; gRPC has a bound too (`launch/environment.py`)."""
_RETRY_AFTER_S = 1
_JUST_WOKEN_S = 5.0
"""How long a deployment that was woken counts as awake before the routing table says so."""

logger = logging.getLogger(__name__)


class Coalescer:
    """The queue of one deployment in one ingress replica. Belongs to one event loop."""

    def __init__(
        self,
        application: str,
        call: ReplicaCall,
        settings: ServingSettings,
        *,
        source: str,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`source`: the ingress replica's id, for the autoscaler."""
        self._application = application
        self._call = call
        self._settings = settings
        self._source = source
        self._clock = clock
        self._queue: FairQueue[Request] = FairQueue()
        self._again: deque[Request] = deque()
        self._bytes: dict[str, int] = {}
        """That wait, by organization."""
        self._is_closed = False
        self._running_rows = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._gate = Gate(settings, clock=clock, draw=draw)
        self._is_pump_due = False
        self._waking: asyncio.Task[None] | None = None
        self._awake_until = 0.0
        self._route: Route | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self._tasks)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue) + len(self._again)

    async def run(self, route: Route, request: Request) -> Share:
        """The request's share of the calls that it becomes part of. `route` is how the deployment looks by now.

        A request of more rows than a call takes waits in parts, so that others' come in between.

        Raises:
            PlatformError: `overloaded`, with when to come back; `deadline_exceeded`; `unavailable`.
            asyncio.CancelledError: nobody waits for the answer.
        """
        left_s = request.deadline.remaining_s()
        if self._is_closed:
            raise _lost()
        self._adopt(route)
        self._gate.note_rows(request.rows)
        if self._queue or request.size > self._settings.max_queued_bytes:
            queued = self._queued(request.principal.org, request.weight)
            if not self._gate.is_open(queued, size=request.size, left_s=left_s):
                raise self._gate.refusal(queued)
        most = self._rows_per_call()
        if request.rows <= most:
            return await self._wait(request)
        waiting = [
            asyncio.get_running_loop().create_task(self._wait(part)) for part in request.in_parts(most)
        ]
        try:
            return Share.joined(await asyncio.gather(*waiting), most)
        except BaseException:
            for each in waiting:
                each.cancel()
            raise

    async def _wait(self, request: Request) -> Share:
        left_s = request.deadline.remaining_s()
        org = request.principal.org
        ticket = self._queue.put(org, request, request.rows, request.weight)
        self._bytes[org] = self._bytes.get(org, 0) + request.size
        timer = asyncio.get_running_loop().call_later(left_s, self._expire, request, ticket)
        if not self._is_pump_due:
            # In the next turn of the loop: what arrives in this one travels together.
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)
        try:
            return await request.answer
        finally:
            timer.cancel()
            self._drop(ticket)
            if request.call is not None:
                request.call.cancel_if_unwanted()

    async def close(self) -> None:
        """Fail what waits, and end what runs. Nothing is taken any more."""
        self._is_closed = True
        for request in (*self._queue, *self._again):
            request.fail(PlatformError("unavailable", retry_after_s=_RETRY_AFTER_S))
        tasks = [*self._tasks, *([self._waking] if self._waking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- admission

    def refusal(self, route: Route, org: str, weight: float, size: int, left_s: float) -> Queued | None:
        """What keeps a request of so many bytes out, before anything is done for it; None if it may join."""
        if not self._queue:
            return None
        self._adopt(route)
        queued = self._queued(org, weight)
        return None if self._gate.is_open(queued, size=size, left_s=left_s) else queued

    def refuse(self, queued: Queued) -> PlatformError:
        """The refusal of such a request."""
        return self._gate.refusal(queued)

    def _adopt(self, route: Route) -> None:
        if self._route is None and route.rows_per_s:
            self._gate.rate = ServiceRate(route.rows_per_s * max(1, route.replicas))
        self._route = route

    def _queued(self, org: str, weight: float) -> Queued:
        return Queued(
            org=org,
            share=self._queue.share_of(org, weight),
            rows_ahead=self._running_rows + self._queue.ahead_of(org, weight),
            rows_next=self._running_rows + self._slots() * self._rows_per_call() if self._replicas() else 0,
            requests=len(self._queue),
            bytes=sum(self._bytes.values()),
            own_requests=self._queue.count_of(org),
            own_bytes=self._bytes.get(org, 0),
        )

    def _expire(self, request: Request, ticket: Ticket[Request]) -> None:
        self._drop(ticket)
        request.fail(request.deadline.exceeded() if self._replicas() else _asleep())

    def _drop(self, ticket: Ticket[Request]) -> None:
        if self._queue.remove(ticket):
            self._release(ticket.item)

    def _release(self, request: Request) -> None:
        """Its bytes wait no longer."""
        org = request.principal.org
        left = self._bytes.get(org, 0) - request.size
        if left > 0:
            self._bytes[org] = left
        else:
            self._bytes.pop(org, None)

    # --- dispatch

    def _slots(self) -> int:
        """Calls that may be in flight together: one runs on each replica while the next is on its way."""
        return self._settings.calls_per_replica * self._replicas()

    def _replicas(self) -> int:
        known = self._route.replicas if self._route else 0
        return known or (1 if self._clock() < self._awake_until else 0)

    def _rows_per_call(self) -> int:
        """Rows to join into one call.

        A model that gains nothing from batches still gets several rows a call, as many as it runs within
        `call_s`: the replica runs them one by one, and the way there and back is paid once.
        """
        best = self._route.max_batch_size if self._route else 1
        return max(best, int((self._gate.rate.per_s or 0.0) * self._settings.call_s))

    def _pump(self) -> None:
        """Send calls while there are slots for them and requests to fill them."""
        self._is_pump_due = False
        if self._is_closed:
            return
        if not self._replicas() and (self._queue or self._again):
            self._wake()
            return
        while self._calls < self._slots() and (batch := self._next_batch()):
            self._calls += 1
            call = Call(batch)
            for request in batch:
                request.call = call
            self._running_rows += call.rows
            call.task = asyncio.get_running_loop().create_task(self._run_call(call))
            self._tasks.add(call.task)
            call.task.add_done_callback(partial(self._end_call, call))

    def _end_call(self, call: Call, task: asyncio.Task[None]) -> None:
        """However it ended, also if it was cancelled before it began: its slot is free, everybody is answered."""
        self._tasks.discard(task)
        call.task = None
        self._calls -= 1
        self._running_rows -= call.rows
        if task.cancelled():
            for request in call.requests:
                request.fail(_lost())
        self._pump()

    def _next_batch(self) -> list[Request]:
        """The requests of the next call; nobody's who has gone. Empty if nothing waits."""
        while self._again:
            request = self._again.popleft()
            if not request.answer.done():
                return [request]
        while self._queue:
            batch = self._take()
            live = [request for request in batch if not request.answer.done()]
            for request in live:
                if request.is_abandoned():
                    request.answer.cancel()
            if live := [request for request in live if not request.answer.done()]:
                return live
        return []

    def _take(self) -> list[Request]:
        limit, rows, size = self._rows_per_call(), 0, 0
        shape: object = None
        left_s = inf

        def is_fitting(request: Request) -> bool:
            nonlocal rows, size, shape, left_s
            left_s = min(left_s, request.deadline.left_s())
            is_too_much = rows + request.rows > limit or size + request.size > _MAX_CALL_BYTES
            is_too_slow = self._gate.rate.seconds_for(rows + request.rows) > left_s
            if rows and (is_too_much or is_too_slow or request.shape != shape):
                return False
            rows += request.rows
            size += request.size
            shape = request.shape
            return True

        batch = list(self._queue.take(is_fitting))
        for request in batch:
            self._release(request)
        return batch

    async def _run_call(self, call: Call) -> None:
        batch, rows = call.requests, call.rows
        began = self._clock()
        try:
            answer = await self._ask(batch, rows)
        except ReplicaLostError:
            self._try_again(batch)
        except PlatformError as error:
            if error.code == "deadline_exceeded":
                self._gate.rate.note(0, began=began, ended=self._clock())
            self._fail(batch, error)
        except asyncio.CancelledError:
            self._gate.rate.note(0, began=began, ended=self._clock())
            raise
        except Exception:
            logger.exception("A call of %s failed with a defect", self._application)
            self._fail(batch, PlatformError("internal_error"))
        else:
            is_full = bool(self._queue) or rows >= self._rows_per_call()
            self._gate.rate.note(rows, began=began, ended=self._clock(), is_full=is_full)
            share_out(batch, answer, size=min(rows, self._route.max_batch_size if self._route else 1))

    async def _ask(self, batch: Sequence[Request], rows: int) -> ReplicaAnswer:
        assert self._route is not None  # noqa: S101 - set before anything is queued
        left = max(request.deadline.left_s() for request in batch)
        if left <= 0:
            raise batch[0].deadline.exceeded()
        arrays = batch[0].arrays
        if len(batch) > 1:
            arrays = self._route.codec.join([request.arrays for request in batch])
        waiting_s = self._gate.rate.seconds_for(self._running_rows + self._queue.cost)
        load = Load(self._source, waiting_s, len(self._queue))
        answer = await self._call(self._application, arrays, left, load)
        if len(answer.results) != len(answer.kept) or len(answer.kept) + len(answer.failed) != rows:
            raise RuntimeError(
                f"{rows} rows were sent, {len(answer.kept)} and {len(answer.failed)} came back"
            )
        return answer

    def _try_again(self, batch: Sequence[Request]) -> None:
        """A replica died: what it held runs once more, each request by itself."""
        for request in batch:
            request.tries += 1
            if request.tries < _MAX_TRIES:
                self._again.append(request)
            else:
                request.fail(_lost())

    def _fail(self, batch: Sequence[Request], error: PlatformError) -> None:
        """The call failed as a whole. Whose fault it was shows when each runs by itself."""
        is_shared = len(batch) > 1 and error.code not in ("deadline_exceeded", "overloaded")
        for request in batch:
            request.tries += is_shared
            if is_shared and request.tries < _MAX_TRIES:
                self._again.append(request)
            else:
                request.fail(error)

    # --- from zero replicas

    def _wake(self) -> None:
        """One call, however many wait, has Serve start a replica; who waits is held until its own deadline."""
        if self._waking is None or self._waking.done():
            self._waking = asyncio.get_running_loop().create_task(self._await_replica())

    async def _await_replica(self) -> None:
        try:
            await self._call.wake(self._application, self._settings.wake_timeout_s)
            self._awake_until = self._clock() + _JUST_WOKEN_S
        except (PlatformError, ReplicaLostError) as error:
            logger.warning("%s did not wake: %r", self._application, error)
            await asyncio.sleep(_RETRY_AFTER_S)
        finally:
            self._waking = None
        self._pump()


def _asleep() -> PlatformError:
    return PlatformError(
        "unavailable",
        "The deployment had no replica, and the first is still starting. Try again, or raise options.timeout_ms.",
        retry_after_s=_RETRY_AFTER_S,
    )


def _lost() -> PlatformError:
    return PlatformError(
        "unavailable", "No replica of the deployment answered. Try again.", retry_after_s=_RETRY_AFTER_S
    )
