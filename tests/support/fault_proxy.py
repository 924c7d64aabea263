"""A proxy between a client and the API that does what networks and crashes do: drops, cuts, holds, drips, refuses.

One request a connection. What goes wrong is said request by request: the n-th one meets the n-th fault of the plan, and
those behind its end pass. A fault either comes before the request reached the API or after it was carried out, which is
what a client cannot tell.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import urlsplit


class Fault(Enum):
    """What happens to one request."""

    NONE = auto()
    """It passes."""
    DROP_BEFORE = auto()
    """The connection ends before the API sees the request."""
    DROP_AFTER = auto()
    """The API carries it out, and the connection ends without an answer."""
    CUT = auto()
    """The API carries it out, and the connection ends within the body of the answer."""
    HANG_BEFORE = auto()
    """Nothing is forwarded and nothing answered, until the client goes away."""
    HANG_AFTER = auto()
    """The API carries it out, and nothing is answered until the client goes away."""
    HOLD_AFTER = auto()
    """The API carries it out, and the connection ends without an answer when `release` is called."""
    DRIP = auto()
    """The API carries it out, and the answer comes byte by byte for ever, in its headers still."""
    BUSY = auto()
    """429 with `Retry-After: 0`, and nothing is forwarded."""
    AWAY = auto()
    """503, and nothing is forwarded."""
    STRANGE = auto()
    """502 in HTML, as a proxy on the way would say it, after the API carried it out."""


def _refusal(status: str, code: str, *more: str) -> bytes:
    body = f'{{"error":{{"code":"{code}","message":"Not now.","request_id":"req_x"}}}}'
    head = [
        f"HTTP/1.1 {status}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *more,
    ]
    return "\r\n".join([*head, "", body]).encode()


_ANSWERS = {
    Fault.BUSY: _refusal("429 Too Many Requests", "rate_limit_exceeded", "retry-after: 0"),
    Fault.AWAY: _refusal("503 Service Unavailable", "unavailable"),
    Fault.STRANGE: b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n"
    b"connection: close\r\n\r\n<html>",
}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_DRIP_PAUSE_S = 0.02


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    line: str
    head: str
    fault: Fault

    @property
    def idempotency_key(self) -> str | None:
        """The header's value."""
        found = re.search(r"\r\nidempotency-key: *(\S+)", self.head, re.IGNORECASE)
        return found[1] if found else None


@dataclass
class FaultProxy:
    """Where it listens, what it is to do next, and what it saw."""

    url: str = ""
    plan: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let those go that are held; in the loop of the proxy."""
        self.released.set()

    def next(self, *plan: Fault) -> None:
        """What happens to the requests from here on; what was seen is forgotten."""
        self.plan[:] = plan
        self.seen.clear()


@asynccontextmanager
async def fault_proxy(target: str, plan: Sequence[Fault] = ()) -> AsyncIterator[FaultProxy]:
    """A running proxy in front of the API at `target`."""
    proxy = FaultProxy(plan=list(plan))
    open_connections: set[asyncio.Task[None]] = set()
    host, port = urlsplit(target).hostname, urlsplit(target).port
    assert host is not None
    assert port is not None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        try:
            await _one_request(proxy, reader, writer, host, port)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever was spoken to went away
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            open_connections.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(open_connections):
            task.cancel()
        await asyncio.gather(*open_connections)
        await server.wait_closed()


async def _one_request(
    proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    fault = proxy.plan.pop(0) if proxy.plan else Fault.NONE
    proxy.seen.append(Seen(head.split(b"\r\n")[0].decode(), head.decode("latin-1"), fault))
    if fault in (Fault.BUSY, Fault.AWAY):
        writer.write(_ANSWERS[fault])
    elif fault is Fault.HANG_BEFORE:
        await reader.read()
    elif fault is not Fault.DROP_BEFORE:
        answer = await _forwarded(head, body, host, port)
        if fault is Fault.HOLD_AFTER:
            await proxy.released.wait()
        await _answer(fault, answer, reader, writer)
    await writer.drain()


async def _forwarded(head: bytes, body: bytes, host: str, port: int) -> bytes:
    """The whole answer of the API."""
    reader, writer = await asyncio.open_connection(host, port)
    request_line, _, rest = head.partition(b"\r\n")
    rest = re.sub(rb"(?i)connection: *keep-alive\r\n", b"", rest)
    writer.write(request_line + b"\r\nconnection: close\r\n" + rest + body)
    try:
        return await reader.read()
    finally:
        writer.close()


async def _answer(
    fault: Fault, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if fault is Fault.CUT:
        head, _, body = answer.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
    elif fault is Fault.DRIP:
        writer.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
        while not reader.at_eof():
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(_DRIP_PAUSE_S)
    elif fault is Fault.STRANGE:
        writer.write(_ANSWERS[fault])
    elif fault is Fault.HANG_AFTER:
        await reader.read()
    elif fault is Fault.NONE:
        writer.write(answer)
