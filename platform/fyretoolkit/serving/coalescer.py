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
from fyretoolkit.core.fair_queue import FairQueue
from fyretoolkit.serving.expiries import Expiries
from fyretoolkit.serving.gate import Gate, Queued
from fyretoolkit.serving.joining import Call, Request, Share, shares_of
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
        self._all_bytes = 0
        self._expiries = Expiries(self._expire)
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
        """As `submit`, for who can wait.

        Raises:
            PlatformError: `overloaded`, with when to come back; `deadline_exceeded`; `unavailable`.
            asyncio.CancelledError: nobody waits for the answer.
        """
        share: asyncio.Future[Share] = asyncio.get_running_loop().create_future()
        request.answered = partial(_settle, share)
        self.submit(route, request)
        try:
            return await share
        finally:
            self.withdraw(request)

    def submit(self, route: Route, request: Request) -> None:
        """Have a request answered: `request.answered` is told its share of the calls that it becomes part of.

        Or, at its deadline at the latest, the error that it ends with. `route` is how the deployment looks by now. A
        request of more rows than a call takes waits in parts, so that others' come in between.

        Raises:
            PlatformError: `overloaded`, with when to come back; `deadline_exceeded`; `unavailable`.
        """
        left_s = request.deadline.remaining_s()
        if self._is_closed:
            raise _lost()
        self._adopt(route)
        self._gate.note_rows(request.rows)
        if self._queue or request.size > self._settings.max_queued_bytes:
            queued = self._queued_unless_free(request.principal.org, request.weight, request.size, left_s)
            if queued is not None:
                raise self._gate.refusal(queued)
        most = self._rows_per_call()
        for part in (request,) if request.rows <= most else request.split(most, self.withdraw):
            self._enqueue(part)
        if not self._is_pump_due:
            # In the next turn of the loop: what arrives in this one travels together.
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more: it leaves the queue, and a call that ran for it alone ends."""
        request.is_done = True
        for each in request.parts or (request,):
            self._leave(each)
            each.is_done = True
            if each.call is not None:
                each.call.cancel_if_unwanted()

    def _enqueue(self, request: Request) -> None:
        org, size = request.principal.org, request.size
        request.ticket = self._queue.put(org, request, request.rows, request.weight)
        self._bytes[org] = self._bytes.get(org, 0) + size
        self._all_bytes += size
        self._expiries.add(request)

    async def close(self) -> None:
        """Fail what waits, and end what runs. Nothing is taken any more."""
        self._is_closed = True
        for request in (*self._queue, *self._again):
            self._finish(request, PlatformError("unavailable", retry_after_s=_RETRY_AFTER_S))
        tasks = [*self._tasks, *([self._waking] if self._waking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._expiries.close()

    # --- admission

    def refusal(self, route: Route, org: str, weight: float, size: int, left_s: float) -> Queued | None:
        """What keeps a request of so many bytes out, before anything is done for it; None if it may join."""
        if not self._queue:
            return None
        self._adopt(route)
        return self._queued_unless_free(org, weight, size, left_s)

    def refuse(self, queued: Queued) -> PlatformError:
        """The refusal of such a request."""
        return self._gate.refusal(queued)

    def _queued_unless_free(self, org: str, weight: float, size: int, left_s: float) -> Queued | None:
        """What a request would find before it, if that keeps it out."""
        if self._is_free_for_all(size, left_s):
            return None
        queued = self._queued(org, weight)
        return None if self._gate.is_open(queued, size=size, left_s=left_s) else queued

    def _is_free_for_all(self, size: int, left_s: float) -> bool:
        """Whether the gate is open whoever asks, since all that there is leaves time and room: no share is needed."""
        wait_s = self._gate.rate.seconds_for(self._running_rows + self._queue.cost)
        return (
            wait_s <= self._settings.max_wait_s
            and wait_s <= left_s
            and len(self._queue) < self._settings.max_queued
            and self._all_bytes + size <= self._settings.max_queued_bytes
        )

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
            bytes=self._all_bytes,
            own_requests=self._queue.count_of(org),
            own_bytes=self._bytes.get(org, 0),
        )

    def _expire(self, request: Request) -> None:
        self._leave(request)
        request.finish(request.deadline.exceeded() if self._replicas() else _asleep())
        if request.call is not None:
            request.call.cancel_if_unwanted()

    def _finish(self, request: Request, outcome: Share | BaseException) -> None:
        self._expiries.discard(request)
        request.finish(outcome)

    def _leave(self, request: Request) -> None:
        """It waits no longer, wherever it did."""
        self._expiries.discard(request)
        ticket, request.ticket = request.ticket, None
        if ticket is not None and self._queue.remove(ticket):
            self._release(request)

    def _release(self, request: Request) -> None:
        """Its bytes wait no longer."""
        org = request.principal.org
        self._all_bytes -= request.size
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
                self._finish(request, _lost())
        call.requests = ()  # which know their call: a circle that only the collector would find
        self._pump()

    def _next_batch(self) -> list[Request]:
        """The requests of the next call; nobody's who has gone. Empty if nothing waits."""
        while self._again:
            request = self._again.popleft()
            if not request.is_done:
                return [request]
        while self._queue:
            if live := [request for request in self._take() if not request.is_done]:
                return live
        return []

    def _take(self) -> list[Request]:
        limit, rows, size = self._rows_per_call(), 0, 0
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

        batch = list(self._queue.take(is_fitting))
        for request in batch:
            request.ticket = None
            self._release(request)
            if request.is_abandoned():
                self._finish(request, asyncio.CancelledError())
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
            size = min(rows, self._route.max_batch_size if self._route else 1)
            for request, share in shares_of(batch, answer, size=size):
                self._finish(request, share)

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
                self._finish(request, _lost())

    def _fail(self, batch: Sequence[Request], error: PlatformError) -> None:
        """The call failed as a whole. Whose fault it was shows when each runs by itself."""
        is_shared = len(batch) > 1 and error.code not in ("deadline_exceeded", "overloaded")
        for request in batch:
            request.tries += is_shared
            if is_shared and request.tries < _MAX_TRIES:
                self._again.append(request)
            else:
                self._finish(request, error)

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


def _settle(share: asyncio.Future[Share], outcome: Share | BaseException) -> None:
    """What was said of a request, to who waits for it."""
    if share.done():
        return
    if isinstance(outcome, Share):
        share.set_result(outcome)
    elif isinstance(outcome, asyncio.CancelledError):
        share.cancel()
    else:
        share.set_exception(outcome)


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
