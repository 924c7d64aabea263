"""Joins the predictions of many callers into few calls of replicas.

Requests for one deployment that arrive while calls are in flight wait in one queue; when a call ends, what waits is
joined into one array and sent as one call. There is no timer: batches come from back-pressure, so a quiet system adds
no delay and a busy one has full batches. The rejected alternative, waiting a few milliseconds for company
(`@serve.batch`), costs those milliseconds when nobody comes and makes batches too small when everybody does.

Callers share the queue by organization (`core.fair_queue`). A request that would wait too long is refused at once
(`core.admission`), one whose deadline passes leaves the queue unrun, one whose client went away is dropped. A replica
that dies fails nobody: what it held is run once more elsewhere, each request in a call of its own and one such call at
a time, so that one that kills replicas harms no neighbour twice: two calls may be on one replica.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from fyretoolkit.core.admission import ServiceRate
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import Served
from fyretoolkit.serving.gate import Gate, Queued
from fyretoolkit.serving.joining import Call, Request, Share, shares_of
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaCall, ReplicaLostError, asleep, unanswered
from fyretoolkit.serving.routing import Route
from fyretoolkit.serving.waiting_room import WaitingRoom
from fyretoolkit.serving.waking import Alarm
from fyretoolkit.settings import ServingSettings

_MAX_TRIES = 2
_RETRY_AFTER_S = 1
_JUST_WOKEN_S = 5.0
"""How long a deployment that was woken counts as awake before the routing table says so."""

logger = logging.getLogger(__name__)


class Coalescer:
    """The queue of one deployment in one ingress replica. Belongs to one event loop."""

    def __init__(
        self,
        call: ReplicaCall,
        settings: ServingSettings,
        *,
        source: str,
        alarm: Alarm | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`source`: the ingress replica's id, for the autoscaler. `alarm`: see `Coalescers`."""
        self._application = ""
        """The Serve application."""
        self._call = call
        self._alarm = alarm
        self._settings = settings
        self._source = source
        self._clock = clock
        self._again: deque[Request] = deque()
        self._retry: Call | None = None
        """The last call of one that runs again."""
        self._is_closed = False
        self._running_rows = 0
        self._under_way: set[asyncio.Future[ReplicaAnswer]] = set()
        self._calls = 0
        self._gate = Gate(settings, clock=clock, draw=draw)
        self._room = WaitingRoom(settings, self._gate, self._expire)
        self._is_pump_due = False
        self._waking: asyncio.Task[None] | None = None
        self._awake_until = 0.0
        self._route: Route | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self._under_way)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._room.queue) + len(self._again)

    @property
    def served(self) -> Served | None:
        """Whose queue it is, once it is known."""
        route = self._route
        return Served(route.deployment, route.model, route.region) if route else None

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

        Or, about its deadline at the latest, the error that it ends with. `route` is how the deployment looks by now. A
        request of more rows than a call takes waits in parts, so that others' come in between.

        Raises:
            PlatformError: `overloaded`, with when to come back; `deadline_exceeded`; `unavailable`.
        """
        left_s = request.deadline.left_s()
        if self._is_closed:
            raise unanswered()
        self._adopt(route)
        if left_s <= 0:
            raise self._too_late(request)
        self._gate.note_rows(request.rows)
        if self._room.queue or request.size > self._settings.max_queued_bytes:
            obstacle = self._obstacle(request.principal.org, request.weight, request.size, left_s)
            if obstacle is not None:
                raise self._gate.refusal(obstacle)
        most = self._rows_per_call()
        for part in (request,) if request.rows <= most else request.split(most, self.withdraw):
            self._room.enter(part)
        if not self._is_pump_due:
            # In the next turn of the loop: what arrives in this one travels together.
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more: it leaves the queue, and a call that is for it alone and can end does."""
        request.is_done = True
        for each in request.parts or (request,):
            self._room.leave(each)
            each.is_done = True
            self._let_go(each.call)

    async def close(self) -> None:
        """Fail what waits, and end what runs. Nothing is taken any more."""
        self._is_closed = True
        for request in (*self._room.queue, *self._again):
            self._room.finish(request, PlatformError("unavailable", retry_after_s=_RETRY_AFTER_S))
        ending: list[asyncio.Future[Any]] = [*self._under_way, *([self._waking] if self._waking else [])]
        for each in ending:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._room.close()

    # --- admission

    def refusal(self, route: Route, org: str, weight: float, size: int, left_s: float) -> Queued | None:
        """What keeps a request of so many bytes out, before anything is done for it; None if it may join."""
        if not self._room.queue:
            return None
        self._adopt(route)
        return self._obstacle(org, weight, size, left_s)

    def refuse(self, queued: Queued) -> PlatformError:
        """The refusal of such a request."""
        return self._gate.refusal(queued)

    def _obstacle(self, org: str, weight: float, size: int, left_s: float) -> Queued | None:
        rows_next = self._running_rows + self._slots() * self._rows_per_call() if self._replicas() else 0
        return self._room.obstacle(
            org, weight, size, left_s, running_rows=self._running_rows, rows_next=rows_next
        )

    def _adopt(self, route: Route) -> None:
        if self._route is None and route.rows_per_s:
            self._gate.rate = ServiceRate(route.rows_per_s * max(1, route.replicas))
        self._route = route
        self._application = (
            self._application or route.application
        )  # then as it moves: a route may be an old one

    def move(self, application: str) -> None:
        """Its replicas are those of this application from now on; who waited for another one to wake goes there."""
        if application == self._application:
            return
        self._application = application
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
            self._awake_until = self._clock() + _JUST_WOKEN_S
            asyncio.get_running_loop().call_soon(self._pump)

    def _expire(self, request: Request) -> None:
        self._room.leave(request)
        request.finish(self._too_late(request))
        self._let_go(request.call)

    def _too_late(self, request: Request) -> PlatformError:
        """Its deadline passed. With no replica to blame, whoever comes next shall find one."""
        if self._replicas():
            return request.deadline.exceeded()
        self._wake()
        return asleep()

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
        if not self._replicas() and (self._room.queue or self._again):
            self._wake()
            return
        while self._calls < self._slots() and (batch := self._next_batch()):
            self._begin_call(Call(batch, began=self._clock()))

    def _begin_call(self, call: Call) -> None:
        self._calls += 1
        self._running_rows += call.rows
        if call.requests[0].tries:
            self._retry = call
        for request in call.requests:
            request.call = call
        try:
            answer = self._ask(call)
            call.has_left = isinstance(answer, asyncio.Future)
            call.answer = asyncio.ensure_future(answer)
        except Exception as error:  # noqa: BLE001 - a defect of ours, which the call ends with
            call.answer = asyncio.get_running_loop().create_future()
            call.answer.set_exception(error)
        self._under_way.add(call.answer)
        call.answer.add_done_callback(partial(self._end_call, call))

    def _ask(self, call: Call) -> Awaitable[ReplicaAnswer]:
        assert self._route is not None  # noqa: S101 - set before anything is queued
        batch = call.requests
        left_s = max(request.deadline.left_s() for request in batch)
        arrays = batch[0].arrays
        if len(batch) > 1:
            arrays = self._route.codec.join([request.arrays for request in batch])
        waiting_s = self._gate.rate.seconds_for(self._running_rows + self._room.queue.cost)
        load = Load(self._source, waiting_s, len(self._room.queue))
        return self._call(self._application, arrays, max(left_s, 0.0), load)

    def _let_go(self, call: Call | None) -> None:
        """If nobody waits for a call any more, it ends, unless a replica has it: that one is not free for the next.

        Were its slot given away, callers with deadlines shorter than an inference would fill the replica with calls
        that it runs for nobody, one behind another.
        """
        if call is None or call.answer is None or not call.is_unwanted:
            return
        if call.has_left:
            self._gate.rate.note(0, began=call.began, ended=self._clock())
            if self._again:  # the next of those may run
                asyncio.get_running_loop().call_soon(self._pump)
        else:
            call.answer.cancel()

    def _end_call(self, call: Call, answer: asyncio.Future[ReplicaAnswer]) -> None:
        """However it ended: its slot is free, and everybody is answered. First the next is sent on its way."""
        self._under_way.discard(answer)
        self._calls -= 1
        self._running_rows -= call.rows
        requests = call.requests
        call.requests, call.answer = (), None  # who know their call: a circle otherwise
        if answer.cancelled():
            self._gate.rate.note(0, began=call.began, ended=self._clock())
            for request in requests:
                self._room.finish(request, unanswered())
            self._pump()
        elif (error := answer.exception()) is not None:
            self._take_failure(requests, error, call)
            self._pump()
        else:
            is_late = all(request.is_done for request in requests)  # the time until then was noted as empty
            is_full = is_late or bool(self._room.queue) or call.rows >= self._rows_per_call()
            self._gate.rate.note(call.rows, began=call.began, ended=self._clock(), is_full=is_full)
            self._pump()
            self._share_out(requests, answer.result(), call.rows)

    def _share_out(self, requests: Sequence[Request], answer: ReplicaAnswer, rows: int) -> None:
        if len(answer.results) != len(answer.kept) or len(answer.kept) + len(answer.failed) != rows:
            came = f"{len(answer.kept)} and {len(answer.failed)} came back"
            logger.error("%s was sent %d rows, %s", self._application, rows, came)
            self._fail(requests, PlatformError("internal_error"))
            self._pump()
            return
        size = min(rows, self._route.max_batch_size if self._route else 1)
        for request, share in shares_of(requests, answer, size=size):
            self._room.finish(request, share)

    def _take_failure(self, requests: Sequence[Request], error: BaseException, call: Call) -> None:
        if isinstance(error, ReplicaLostError):
            self._try_again(requests)
        elif isinstance(error, PlatformError):
            if error.code == "deadline_exceeded":
                self._gate.rate.note(0, began=call.began, ended=self._clock())
            self._fail(requests, error)
        else:
            logger.error("A call of %s failed with a defect", self._application, exc_info=error)
            self._fail(requests, PlatformError("internal_error"))

    def _next_batch(self) -> list[Request]:
        """The requests of the next call; nobody's who has gone. Empty if nothing waits that may run now."""
        while self._again and (self._retry is None or self._retry.is_unwanted):
            request = self._again.popleft()
            if request.deadline.left_s() <= 0:
                self._room.finish(request, request.deadline.exceeded())
            if not request.is_done:
                return [request]
        while self._room.queue:
            if live := [request for request in self._room.take(self._rows_per_call()) if not request.is_done]:
                return live
        return []

    def _try_again(self, batch: Sequence[Request]) -> None:
        """A replica died: what it held runs once more, each request by itself."""
        for request in batch:
            self._run_alone(request, unanswered())

    def _fail(self, batch: Sequence[Request], error: PlatformError) -> None:
        """The call failed as a whole. Whose fault it was shows when each runs by itself."""
        is_shared = len(batch) > 1 and error.code not in ("deadline_exceeded", "overloaded")
        for request in batch:
            if is_shared:
                self._run_alone(request, error)
            elif error.code == "deadline_exceeded":
                self._room.finish(request, self._too_late(request))
            else:
                self._room.finish(request, error)

    def _run_alone(self, request: Request, error: PlatformError) -> None:
        """In a call of its own, unless it had its tries, or none will be made: then it ends with the error."""
        request.tries += 1
        if request.is_done:
            return
        if request.tries < _MAX_TRIES and not self._is_closed:
            self._again.append(request)
        else:
            self._room.finish(request, error)

    # --- from zero replicas

    def _wake(self) -> None:
        """One call, however many wait, has Serve start a replica; who waits is held until its own deadline."""
        if not self._is_closed and (self._waking is None or self._waking.done()):
            self._waking = asyncio.get_running_loop().create_task(self._await_replica())

    async def _await_replica(self) -> None:
        try:
            if self._alarm is not None and self._route is not None:
                await self._alarm.ring(self._route.org, self._route.deployment)
            await self._call.wake(self._application, self._settings.wake_timeout_s)
            self._awake_until = self._clock() + _JUST_WOKEN_S
        except (PlatformError, ReplicaLostError) as error:
            logger.warning("%s did not wake: %r", self._application, error)
            await asyncio.sleep(_RETRY_AFTER_S)
        finally:
            if self._waking is asyncio.current_task():
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
