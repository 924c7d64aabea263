"""One HTTP request over one connection to checked addresses, and what an answer may cost before and while it is read.

The other side is chosen by a caller, and who reads it has an event loop to share. An answer may say `100 Continue`
without end before it says anything, each of which is parsed, and may come in chunks of one byte: kilobytes of either
take the loop for longer than megabytes of a plain file. So the head, with all that comes before it, is bounded in bytes
and in time, it is read in small pieces, and a body in tiny chunks is read slowly.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore

from fyretoolkit.egress.addresses import IpAddress
from fyretoolkit.egress.pinned import PinnedBackend, tls_context
from fyretoolkit.egress.transfer import Timeouts
from fyretoolkit.egress.urls import ParsedUrl

_MAX_HEAD_BYTES = 32 << 10
_HEAD_READ_BYTES = 1 << 10
"""At most so much is parsed without others having a turn in between."""
_CHUNKS = 256
_TINY_BYTES = 64
_TINY_PAUSE_S = 0.01
"""Behind so many chunks whose mean is below that size: each costs the loop some 10 µs, however small it is."""


class LongHeadError(httpcore.RemoteProtocolError):
    """What comes before the body has no end, or is too long."""


class SlowHeadError(httpcore.ReadTimeout):
    """It began to come, and is not there in time."""


NETWORK_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (httpcore.ConnectTimeout, "did not accept a connection in time"),
    (SlowHeadError, "began to answer and did not get to it in time"),
    (httpcore.TimeoutException, "was silent for too long"),
    (httpcore.ConnectError, "refused the connection"),
    (httpcore.NetworkError, "broke the connection"),
    (LongHeadError, f"sent more than {_MAX_HEAD_BYTES >> 10} KiB before its answer began"),
    (httpcore.ProtocolError, "ended its answer early, or does not speak HTTP"),
    (ssl.SSLError, "does not speak TLS as expected"),
)
"""What each means, the first that fits; together all that an exchange raises."""


def words_of(error: Exception) -> str:
    """What the network did, without repeating text that the other side chose."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = (
            cause.__cause__ or cause.__context__
        )  # httpcore's pool raises `from None`, which drops the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has no valid certificate ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return "does not speak TLS as expected"
    return next(words for kind, words in NETWORK_FAILURES if isinstance(error, kind))


@asynccontextmanager
async def exchange(
    method: str,
    url: ParsedUrl,
    addresses: Sequence[IpAddress],
    headers: Sequence[tuple[bytes, bytes]],
    timeouts: Timeouts,
    *,
    body: bytes | None = None,
) -> AsyncIterator[httpcore.Response]:
    """The answer of `url`'s server at one of these addresses: its head is there, its body is for the caller to read.

    Host and Connection are set here. Redirects are answers.

    Raises:
        One of `NETWORK_FAILURES`, now or while the body is read.
    """
    head = _Head(timeouts.read_s)
    origin = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
    timeout = {
        "connect": timeouts.connect_s,
        "read": timeouts.read_s,
        "write": timeouts.read_s,
        "pool": timeouts.connect_s,
    }
    sent = ((b"Host", url.authority.encode("ascii")), *headers, (b"Connection", b"close"))
    async with (
        httpcore.AsyncConnectionPool(
            ssl_context=tls_context(),
            max_connections=1,
            max_keepalive_connections=0,
            http2=False,
            retries=0,
            network_backend=_Backend(addresses, head),
        ) as pool,
        pool.stream(method, origin, headers=sent, content=body, extensions={"timeout": timeout}) as response,
    ):
        head.is_over = True
        yield response


async def chunks_of(response: httpcore.Response) -> AsyncIterator[bytes]:
    """The body as it comes. Many chunks of a few bytes leave the loop to others in between."""
    count = size = 0
    async for chunk in response.aiter_stream():
        yield chunk
        count, size = count + 1, size + len(chunk)
        if count == _CHUNKS:
            if size < _CHUNKS * _TINY_BYTES:
                await asyncio.sleep(_TINY_PAUSE_S)
            count = size = 0


class _Head:
    """How much of an answer has come before its body."""

    def __init__(self, limit_s: float) -> None:
        self.is_over = False
        self.received = 0
        self._limit_s = limit_s
        self._ends_at: float | None = None

    def left_s(self) -> float:
        """Until it has to be there. The time begins with the first question: the request is sent then."""
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + self._limit_s
        return max(self._ends_at - now, 0.0)


class _Stream(httpcore.AsyncNetworkStream):
    """Another stream, with an eye on the head of the answer that is read from it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, head: _Head) -> None:
        self._stream = stream
        self._head = head

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        head = self._head
        if head.is_over:
            return await self._stream.read(max_bytes, timeout)
        left_s = head.left_s()
        try:
            data = await self._stream.read(min(max_bytes, _HEAD_READ_BYTES), left_s)
        except httpcore.ReadTimeout as error:
            if head.received:
                raise SlowHeadError from error
            raise
        head.received += len(data)
        if head.received > _MAX_HEAD_BYTES:
            raise LongHeadError
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._head)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(PinnedBackend):
    """Streams that keep an eye on the head."""

    def __init__(self, addresses: Sequence[IpAddress], head: _Head) -> None:
        super().__init__(addresses)
        self._head = head

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._head)
