"""The layer around everything: request ids, the envelope around every failure, one access log line a request.

Edges nest (see `Edge`): the outermost begins the exchange and logs it, each renders the failures within it.

A pure ASGI function: Starlette's BaseHTTPMiddleware would copy every body through a queue. Whatever happens inside,
what leaves here has an X-Request-Id, and a failure has our envelope.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fyretoolkit.api.requests import (
    SERVE_HEADERS,
    ClientGoneError,
    Headers,
    by_name,
    header_values,
    request_id,
)
from fyretoolkit.api.responses import JSON, RawHeaders, framework_error, send_error
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposure import is_own_name
from fyretoolkit.core.organizations import Principal

_KEY = "fyre.exchange"
_KEPT_HEADERS = frozenset((b"allow", b"content-range", b"retry-after", b"www-authenticate"))
_DROPPED_HEADERS = SERVE_HEADERS | {b"x-request-id"}
CLIENT_GONE = 499
"""The status in the log where nobody was there to answer any more."""
_MAX_LOGGED_CHARS = 512
_OK, _PREDICTIONS = 200, "/predict/"

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("fyretoolkit.access")


@dataclass(slots=True)
class Exchange:
    """One request and what is known of it so far; every layer finds it in the scope."""

    request_id: str
    headers_by_name: dict[bytes, list[bytes]]
    """Of the request, as it came."""
    has_body: bool = True
    """False for HEAD: the answer has the headers of a GET alone."""
    principal: Principal | None = None
    headers: RawHeaders = field(default_factory=list)
    """Added to the answer, whatever it will be."""
    status: int = 0
    began: float = field(default_factory=time.perf_counter)


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that the outermost edge began."""
    exchange: Exchange = scope[_KEY]
    return exchange


class Edge:
    """Wraps an ASGI app. Edges nest: Serve's own wrapper stands between two of them and would answer a failure itself.

    Each renders what fails within it; the outermost one begins the exchange and logs it.
    """

    def __init__(self, app: ASGIApp, *, is_local: bool = False) -> None:
        """`is_local`: refuse requests that were sent to a name which is not this machine's own.

        A page in a browser here may have any name lead here (DNS rebinding), and read what is answered to it.
        """
        self._app = app
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _KEY in scope:
            await self._answer(scope, receive, _Answer(send, exchange_of(scope)))
        else:
            await self._exchange(scope, receive, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = by_name(scope["headers"])
        exchange = Exchange(request_id(given), given, has_body=scope["method"] != "HEAD")
        headers = [pair for pair in scope["headers"] if pair[0] not in _DROPPED_HEADERS]
        headers.append((b"x-request-id", exchange.request_id.encode()))
        try:
            inner = {**scope, "headers": headers, _KEY: exchange}
            await self._answer(inner, receive, _Answer(send, exchange))
        finally:
            log_request(scope["method"], scope["path"], exchange)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            if self._is_local:
                check_host(exchange_of(scope).headers_by_name)
            await self._app(scope, receive, answer.send)
        except ClientGoneError:
            exchange = exchange_of(scope)
            exchange.status = exchange.status or CLIENT_GONE
        except asyncio.CancelledError:  # Serve cancels the request of a client that went away
            exchange = exchange_of(scope)
            exchange.status = exchange.status or CLIENT_GONE
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets the envelope
            await answer.fail(error)
            # Its frames hold the error: a circle that only the collector would find.
            error.__traceback__ = None


def failure_of(error: BaseException, request: str) -> PlatformError:
    """What a caller is told of what was raised; a defect leaves its traceback in the log alone."""
    if not isinstance(error, PlatformError):
        logger.error("Request %s failed with a defect", request, exc_info=error)
        return PlatformError("internal_error")
    if error.status == 500:
        logger.error("Request %s failed", request, exc_info=error)
    return error


def check_host(headers: Headers) -> None:
    """Refuses a request to a name that is not this machine's own.

    Raises:
        PlatformError: `host_not_allowed`.
    """
    for host in header_values(headers, b"host"):
        if host and not is_own_name(host.decode("latin-1")):
            raise PlatformError(
                "host_not_allowed",
                "The platform runs in development mode and answers at localhost alone. "
                "Send the request to http://localhost, or run the platform with --mode production.",
            )


class _Answer:
    """The way out: adds the request id, and replaces every failure that is not our envelope."""

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self._send = send
        self._exchange = exchange
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._is_replaced:
            await self._send(message if self._exchange.has_body else {**message, "body": b""})

    async def fail(self, error: Exception) -> None:
        """The envelope for what was raised inside; a defect leaves its traceback in the log alone."""
        request = self._exchange.request_id
        failure = failure_of(error, request)
        if self._exchange.status:
            raise failure  # the status has left: only a broken connection can say it
        await send_error(self.send, failure, request)

    async def _start(self, message: Message) -> None:
        status: int = message["status"]
        headers = [(name.lower(), value) for name, value in message.get("headers", [])]
        if status >= 400 and status != CLIENT_GONE and (b"content-type", JSON) not in headers:
            self._is_replaced = True
            await self._replace(status, [pair for pair in headers if pair[0] in _KEPT_HEADERS])
            return
        self._exchange.status = status
        own = [(b"x-request-id", self._exchange.request_id.encode()), *self._exchange.headers]
        names = {name for name, _ in own}  # an inner edge has added them already
        await self._send({**message, "headers": [*(pair for pair in headers if pair[0] not in names), *own]})

    async def _replace(self, status: int, headers: RawHeaders) -> None:
        """A framework's own answer, said in our words; what follows of it is dropped."""
        fresh = _Answer(self._send, self._exchange)
        error = framework_error(status)
        await send_error(fresh.send, error, self._exchange.request_id, headers)


def log_request(method: str, path: str, exchange: Exchange) -> None:
    """One JSON line, never with a query (it may hold a signature), a header or a body.

    At DEBUG of a prediction that was answered: thousands a second, which the metrics count.
    """
    is_usual = exchange.status == _OK and path.startswith(_PREDICTIONS)
    level = logging.DEBUG if is_usual else logging.INFO
    if not access_logger.isEnabledFor(level):
        return
    principal = exchange.principal
    line = {
        "event": "request",
        "request_id": exchange.request_id,
        "method": method,
        "path": path[:_MAX_LOGGED_CHARS],
        "status": exchange.status,
        "duration_ms": round((time.perf_counter() - exchange.began) * 1000, 2),
        "org": principal.org if principal else None,
        "key": principal.key_id if principal else None,
    }
    access_logger.log(level, json.dumps(line))
