"""Predictions answered from the HTTP server's own callbacks, without a task and a dozen coroutines a request.

uvicorn runs an ASGI app in a task for each request; for a small model that and what comes with it (decisions/0006) cost
more than all the rest of a prediction. This is uvicorn's protocol with one short cut: a prediction that came whole in
one read, from a key that is remembered, is begun when its last byte is parsed, and its answer is written in one piece
when its call ends. Whatever is not so plain (a body that arrives in pieces, a pipelined request, an upgrade, a path
with escapes, a key to look up) goes the usual way, into the same endpoint. Both ways share everything between the
headers and the answer's body (`api/predict.py`), and the contract suite runs over both.

Source: uvicorn 0.54, `protocols/http/httptools_impl.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from math import inf
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fyretoolkit.api.edge import CLIENT_GONE, Exchange, failure_of, log_request
from fyretoolkit.api.predict import PATH, PredictEndpoint
from fyretoolkit.api.requests import by_name, request_id
from fyretoolkit.api.responses import RawHeaders, error_headers
from fyretoolkit.schemas.errors import render_error

logger = logging.getLogger(__name__)

_URL = re.compile(re.escape(PATH.encode()) + rb"[A-Za-z0-9._~-]+")
_MOST_BYTES = 1 << 16
"""Of a body. uvicorn reads as many before anybody looks at them; larger ones are held back until it is known whose."""


class _Reply:
    """One answer under way. To uvicorn's protocol it is a cycle of request and response as any other."""

    __slots__ = ("_path", "_protocol", "disconnected", "exchange", "keep_alive", "response_complete")

    def __init__(self, protocol: PredictProtocol, path: str, exchange: Exchange, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self._path = path
        self.exchange = exchange
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False

    @property
    def message_event(self) -> _Reply:
        """What uvicorn sets when there is something to receive: here nobody waits for that."""
        return self

    def set(self) -> None:
        """As `asyncio.Event.set`."""

    def is_abandoned(self) -> bool:
        """Whether the client has gone."""
        return self.disconnected

    def send(self, outcome: bytes | BaseException) -> None:
        """Write the answer, and let the connection go on to its next request."""
        self.response_complete = True
        if self.disconnected or isinstance(outcome, asyncio.CancelledError):
            self.exchange.status = CLIENT_GONE
            self._protocol.transport.close()
        else:
            try:
                self._protocol.write_answer(self, self._rendered(outcome))
            except Exception:
                logger.exception("Request %s could not be answered", self.exchange.request_id)
                self._protocol.transport.close()  # rather than let its client wait
        log_request("POST", self._path, self.exchange)

    def _rendered(self, outcome: bytes | BaseException) -> bytes:
        """The whole answer, its headers in the order in which they are written in a task."""
        exchange = self.exchange
        request = exchange.request_id
        more: RawHeaders = []
        if isinstance(outcome, bytes):
            exchange.status, body = 200, outcome
        else:
            failure = failure_of(outcome, request)
            exchange.status, body, more = (
                failure.status,
                render_error(failure, request),
                error_headers(failure),
            )
        return (
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n%bx-request-id: %b\r\n%b%b\r\n%b"
            % (
                STATUS_LINE[exchange.status],
                self._protocol.default_lines(),
                len(body),
                _lines(more),
                request.encode(),
                _lines(exchange.headers),
                b"" if self.keep_alive else b"connection: close\r\n",
                body,
            )
        )


def _lines(headers: RawHeaders) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


class PredictProtocol(HttpToolsProtocol):
    """One connection."""

    endpoint: ClassVar[PredictEndpoint]
    defaults: ClassVar[tuple[RawHeaders, bytes]] = [], b""
    """uvicorn's newest list of default headers, and its lines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pieces: list[bytes] | None = None
        """Of the body of a request that may be answered here; None: it goes the usual way."""
        self._answer: _Reply | None = None
        self._header_count = 0
        self._idle_since = inf

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._pieces is not None:  # more of it is to come
            self._pass_on(b"".join(self._pieces))

    def on_message_begin(self) -> None:
        """Without uvicorn's scope, which `_complete_headers` makes for those that need one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._header_count = len(self.headers)
        if self.transport.is_closing() or self._is_plain_prediction():
            self._pieces = []
        else:
            self._complete_headers()

    def on_body(self, body: bytes) -> None:
        if self._pieces is not None:
            self._pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._pieces is None:
            super().on_message_complete()
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(body) <= _MOST_BYTES and self._begin(body):
            self._pieces = None
        else:
            self._pass_on(body)
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.disconnected = True
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()

    def handle_websocket_upgrade(self) -> None:
        """The connection is another protocol's from here on."""
        super()._unset_keepalive_if_required()
        super().handle_websocket_upgrade()

    def write_answer(self, answer: _Reply, content: bytes) -> None:
        """One whole answer, in one piece."""
        self._answer = None
        if self.transport.is_closing():
            return
        self.transport.write(content)
        if not answer.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def default_lines(self) -> bytes:
        """The headers that every answer has. uvicorn makes a new list of them each second."""
        headers = self.server_state.default_headers
        if self.defaults[0] is not headers:
            type(self).defaults = headers, _lines(headers)
        return self.defaults[1]

    def on_response_complete(self) -> None:
        """As uvicorn's, but a connection keeps one timer, and not one for each time that it is idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; another is looked at later."""
        self.timeout_keep_alive_task = None
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            super().timeout_keep_alive_handler()
        else:
            self._look_again_in(min(left_s, self.timeout_keep_alive))

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Data came, so it is not idle; where uvicorn ends its timer, this one goes on."""
        self._idle_since = inf

    def _is_plain_prediction(self) -> bool:
        parser = self.parser
        return (
            _URL.fullmatch(self.url) is not None
            and (self.cycle is None or self.cycle.response_complete)
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not (parser.should_upgrade() or self.expect_100_continue or self.flow.write_paused)
        )

    def _begin(self, body: bytes) -> bool:
        if self.transport.is_closing():  # nobody would hear of it
            return True
        path = self.url.decode("ascii")
        headers = by_name(self.headers[: self._header_count])  # behind them are a chunked body's trailers
        exchange = Exchange(request_id(headers), headers)
        answer = _Reply(self, path, exchange, keep_alive=self.parser.should_keep_alive())
        self._answer, self.cycle, before = answer, answer, self.cycle  # type: ignore[assignment]
        is_begun = self.endpoint.begin(
            exchange, path[len(PATH) :], body, is_abandoned=answer.is_abandoned, answered=answer.send
        )
        if not is_begun:
            self._answer, self.cycle = None, before
        return is_begun

    def _pass_on(self, body: bytes) -> None:
        """Go the usual way after all, with what has been read."""
        self._pieces = None
        if self.transport.is_closing():  # what came was no HTTP
            return
        self._complete_headers()
        if body:
            super().on_body(body)

    def _complete_headers(self) -> None:
        url, headers, is_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, is_continue
        self.headers = self.scope["headers"] = headers
        super().on_headers_complete()


def protocol_of(endpoint: PredictEndpoint) -> type[PredictProtocol]:
    """uvicorn's protocol, with predictions answered by `endpoint`."""
    return type("PredictProtocol", (PredictProtocol,), {"endpoint": endpoint})
