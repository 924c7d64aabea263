"""Where the two clients differ: sleeping, bounding the time of an attempt, opening HTTP, reading a file.

Everything else is written once, in `asynchronous/`, and `synchronous/` is generated from it.

An attempt has one bound on its whole duration. httpx has one for each read alone, and a server that sends a byte now
and then keeps such a call for ever. With asyncio a timeout around it does that; without, every operation on a socket
gets the time that is left, by a network backend of httpcore's. What it cannot bound is the look-up of the host's name.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from fyretoolkit.client.errors import APIConnectionError, APITimeoutError
from fyretoolkit.client.options import Options, is_this_machine

_CONNECT_TIMEOUT_S = 10.0
_MAX_CONNECTIONS = 100
_KEPT_CONNECTIONS = 20
_KEEP_ALIVE_S = 5.0
_BLOCK_BYTES = 1 << 18
_WRITE_BYTES = 1 << 16
_TIMEOUTS = (httpx.TimeoutException, httpcore.TimeoutException)
_FAILURES = (
    httpx.TransportError,
    httpx.TooManyRedirects,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.UnsupportedProtocol,
)
"""What happens before the first byte of the request is sent."""
_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("_deadline", default=None)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of httpx and httpcore as this client's.

    Raises:
        APITimeoutError, APIConnectionError.
    """
    try:
        yield
    except _TIMEOUTS as error:
        is_sent = not isinstance(error, _UNSENT)
        raise APITimeoutError(f"No answer in time: {_said(error)}.", is_sent=is_sent) from error
    except _FAILURES as error:
        is_sent = not isinstance(error, _UNSENT)
        raise APIConnectionError(f"No answer: {_said(error)}.", is_sent=is_sent) from error


def _said(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


async def async_sleep(seconds: float) -> None:
    """Wait, while other tasks run."""
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


@asynccontextmanager
async def async_within(seconds: float) -> AsyncIterator[None]:
    """Bounds what is done inside, as a whole.

    Raises:
        APITimeoutError: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, APITimeoutError):
            raise
        raise APITimeoutError(f"No answer within {seconds:.3g} s.") from error


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The same for this thread: every operation on a socket has the time that is left."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def timeouts_of(options: Options) -> httpx.Timeout:
    """Of each operation on a socket; how long an attempt takes as a whole is bounded besides."""
    return httpx.Timeout(
        options.attempt_timeout_s, connect=min(_CONNECT_TIMEOUT_S, options.attempt_timeout_s)
    )


def async_open_http(base_url: str) -> httpx.AsyncClient:
    """A pool of connections."""
    limits = httpx.Limits(
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_KEPT_CONNECTIONS,
        keepalive_expiry=_KEEP_ALIVE_S,
    )
    return httpx.AsyncClient(proxy=_proxy_for(base_url), trust_env=False, limits=limits)


def open_http(base_url: str) -> httpx.Client:
    """A pool of connections, of which `within` bounds each operation."""
    return httpx.Client(transport=_BoundedTransport(_proxy_for(base_url)), trust_env=False)


async def async_file_blocks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, block after block, read beside the event loop."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block
    finally:
        file.close()


def file_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, block after block."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


async def async_save(blocks: AsyncIterator[bytes], path: Path) -> Path:
    """Writes a download beside `path`, and renames it when it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    file = await asyncio.to_thread(partial.open, "wb")
    try:
        async for block in blocks:
            await asyncio.to_thread(file.write, block)
    finally:
        await asyncio.to_thread(file.close)
    return await asyncio.to_thread(partial.replace, path)


def save(blocks: Iterator[bytes], path: Path) -> Path:
    """Writes a download beside `path`, and renames it when it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        for block in blocks:
            file.write(block)
    return partial.replace(path)


def _proxy_for(base_url: str) -> str | None:
    """The proxy that the environment names for the platform; none for this machine."""
    if is_this_machine(base_url):
        return None
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return timeout
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise error("the time of the attempt is over")
    return left_s if timeout is None else min(timeout, left_s)


class _BoundedStream(httpcore.NetworkStream):
    """A connection of which no operation goes beyond the deadline of its thread."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_BYTES):
            piece = buffer[start : start + _WRITE_BYTES]
            self._stream.write(piece, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left(timeout, httpcore.ConnectTimeout)
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left_s))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedBackend(httpcore.NetworkBackend):
    """Opens such connections."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left_s = _left(timeout, httpcore.ConnectTimeout)
        return _BoundedStream(self._backend.connect_tcp(host, port, left_s, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _BoundedTransport(httpx.BaseTransport):
    """httpcore's pool with that backend, which httpx's own transport does not take."""

    def __init__(self, proxy: str | None) -> None:
        options: dict[str, Any] = {
            "ssl_context": httpx.create_ssl_context(),
            "max_connections": _MAX_CONNECTIONS,
            "max_keepalive_connections": _KEPT_CONNECTIONS,
            "keepalive_expiry": _KEEP_ALIVE_S,
            "network_backend": _BoundedBackend(),
        }
        self._pool = _proxied(proxy, options) if proxy else httpcore.ConnectionPool(**options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer.iter_stream, answer.close),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, blocks: Callable[[], Iterator[bytes]], close: Callable[[], None]) -> None:
        self._blocks = blocks
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blocks()

    def close(self) -> None:
        self._close()


def _proxied(proxy: str, options: dict[str, Any]) -> httpcore.ConnectionPool:
    url = httpx.URL(proxy)
    auth = (url.username.encode(), url.password.encode()) if url.username else None
    bare = url.copy_with(username=None, password=None)
    return httpcore.HTTPProxy(proxy_url=str(bare), proxy_auth=auth, **options)
