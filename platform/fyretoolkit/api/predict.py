"""`POST /predict/{model_id}` over plain ASGI: no dependency graph and no request object on the hottest path.

Ray Serve does not see these requests (`serve_apps/http_edge.py`), so what its wrapper would do is done here: a bound on
what is held at a time, a look at whether the client is still there, an orderly end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

from starlette.types import Receive, Scope, Send

from fyretoolkit.api.dependencies import admit, admit_prediction_at_once
from fyretoolkit.api.edge import Edge, Exchange, check_host, exchange_of
from fyretoolkit.api.requests import (
    ClientGoneError,
    check_json,
    declared_length,
    is_client_gone,
    read_body,
)
from fyretoolkit.api.responses import send_error, send_json
from fyretoolkit.api.services import Services
from fyretoolkit.core import organizations
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.metrics import REJECTED
from fyretoolkit.serving.parsing import SEND_FEWER

PATH = "/predict/"
_DRAIN_S = 15.0
"""How long predictions under way may take once the app ends. Under Serve the HTTP server has waited for them before."""
_RETRY_AFTER_S = 1


def is_prediction(scope: Scope) -> bool:
    """Whether a request asks for a prediction, rightly or wrongly."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path.startswith(PATH) and len(path) > len(PATH) and path.find("/", len(PATH)) < 0


class Bodies:
    """The bytes of bodies that are held, by organization: together at most so many, of one organization half."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_org: dict[str, int] = {}
        self._total = 0

    def add(self, org: str, size: int) -> None:
        """Hold some more.

        Raises:
            PlatformError: `overloaded`, there is no room for them.
        """
        own = self._by_org.get(org, 0) + size
        if self._total + size > self._most or own > self._most // 2:
            raise PlatformError("overloaded", retry_after_s=_RETRY_AFTER_S)
        self._by_org[org] = own
        self._total += size

    def release(self, org: str, size: int) -> None:
        """Hold some less."""
        self._total -= size
        if (left := self._by_org.get(org, 0) - size) > 0:
            self._by_org[org] = left
        else:
            self._by_org.pop(org, None)


class _Held:
    """What is held of one body, as it arrives."""

    def __init__(self, bodies: Bodies, org: str) -> None:
        self._bodies = bodies
        self._org = org
        self._size = 0

    def add(self, size: int) -> None:
        """So many bytes came."""
        self._bodies.add(self._org, size)
        self._size += size

    def release(self) -> None:
        """They are not needed any more."""
        self._bodies.release(self._org, self._size)


class _Begun:
    """A prediction under way that was begun without a task."""

    __slots__ = ("_answered", "_endpoint", "_task", "held")

    def __init__(self, endpoint: PredictEndpoint, answered: Callable[[bytes | BaseException], None]) -> None:
        self._endpoint = endpoint
        self._answered = answered
        self._task: asyncio.Task[bytes] | None = None
        self.held: _Held | None = None

    def finish(self, outcome: bytes | BaseException) -> None:
        """It is answered."""
        if self.held is not None:
            self.held.release()
        self._endpoint.note_end()
        self._answered(outcome)
        if isinstance(outcome, BaseException):
            # Its frames may hold the error: a circle that only the collector would find.
            outcome.__traceback__ = None

    def wait_for(self, answer: Coroutine[None, None, bytes]) -> None:
        """It takes a task after all."""
        self._task = asyncio.get_running_loop().create_task(answer)
        self._task.add_done_callback(self._take)

    def _take(self, task: asyncio.Task[bytes]) -> None:
        if task.cancelled():
            self.finish(asyncio.CancelledError())
        else:
            self.finish(task.exception() or task.result())


class PredictEndpoint:
    """An ASGI app for the predict path alone; mounted in the FastAPI app, and complete when served by itself."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._app = Edge(self._answer, is_local=services.settings.is_development)
        self._held = Bodies(services.settings.serving.max_body_bytes_held)
        self._under_way = 0
        self._is_drained = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.note_end()

    def begin(
        self,
        exchange: Exchange,
        model_id: str,
        body: bytes,
        *,
        is_abandoned: Callable[[], bool],
        answered: Callable[[bytes | BaseException], None],
    ) -> bool:
        """The same for a request that is here whole, without a task: `answered` is told the answer, or what was raised.

        False, and nothing was done, if Redis has to be asked who is calling, or the body is too large to be taken: then
        the app is to be called as usual.
        """
        if len(body) > self._services.settings.limits.max_body_bytes:
            return False
        begun = _Begun(self, answered)
        self._under_way += 1
        try:
            if self._services.settings.is_development:
                check_host(exchange.headers_by_name)
            if not self._begin(begun, exchange, model_id, body, is_abandoned):
                self.note_end()
                return False
        except Exception as error:  # noqa: BLE001 - told to who waits for it
            begun.finish(error)
        return True

    def _begin(
        self,
        begun: _Begun,
        exchange: Exchange,
        model_id: str,
        body: bytes,
        is_abandoned: Callable[[], bool],
    ) -> bool:
        predictor = self._services.predictor
        try:
            principal = admit_prediction_at_once(exchange, self._services)
        except PlatformError as error:
            self._count_refusal(exchange, model_id, error)
            raise
        if principal is None:
            exchange.principal = None
            return False
        predictor.check_room(principal, model_id, len(body))
        check_json(exchange.headers_by_name)
        begun.held = _Held(self._held, principal.org)
        begun.held.add(len(body))
        request = exchange.request_id
        if not predictor.begin(
            principal, model_id, body, request, is_abandoned=is_abandoned, answered=begun.finish
        ):
            begun.wait_for(predictor.predict(principal, model_id, body, request, is_abandoned=is_abandoned))
        return True

    def note_end(self) -> None:
        """A prediction that was under way is answered."""
        self._under_way -= 1
        if not self._under_way:
            self._is_drained.set()

    async def drain(self) -> None:
        """Until no prediction is under way, for as long as there is time for that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._under_way:
                    self._is_drained.clear()
                    await self._is_drained.wait()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            request = exchange_of(scope).request_id
            await send_error(send, PlatformError("method_not_allowed"), request, [(b"allow", b"POST")])
            return
        model_id = scope["path"].rpartition(PATH)[2]
        try:
            principal = await admit(scope, self._services, organizations.Scope.PREDICT)
        except PlatformError as error:
            self._count_refusal(exchange_of(scope), model_id, error)
            raise
        size = declared_length(exchange_of(scope).headers_by_name) or 0
        self._services.predictor.check_room(principal, model_id, size)
        check_json(exchange_of(scope).headers_by_name)
        held = _Held(self._held, principal.org)
        try:
            body = await read_body(
                scope,
                receive,
                self._services.settings.limits.max_body_bytes,
                advice=SEND_FEWER,
                hold=held.add,
            )
            answer = await self._predict(scope, receive, principal, model_id, body)
        finally:
            held.release()
        await send_json(send, 200, answer)

    async def _predict(
        self, scope: Scope, receive: Receive, principal: organizations.Principal, model_id: str, body: bytes
    ) -> bytes:
        try:
            return await self._services.predictor.predict(
                principal,
                model_id,
                body,
                exchange_of(scope).request_id,
                is_abandoned=partial(is_client_gone, receive),
            )
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ClientGoneError from None  # its place in the queue was given up

    def _count_refusal(self, exchange: Exchange, model_id: str, error: PlatformError) -> None:
        """A caller over its rate limit shows in the metrics of the deployment that it asked for."""
        principal = exchange.principal
        if principal is not None and error.code in REJECTED:
            self._services.predictor.count_refusal(principal.org, model_id, error)
