"""Receivers of webhooks, each of another kind, on ports of their own; they keep what they are sent and when."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from standardwebhooks.webhooks import Webhook

_HUGE = b"x" * 10_000_000
_DRIP_S = 0.05


@dataclass(frozen=True)
class Received:
    """One request to a receiver."""

    kind: str
    at: float
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    def verified(self, *secrets: str) -> dict[str, Any]:
        """The event, verified by the library of Standard Webhooks with each secret; it raises if one does not fit."""
        event: dict[str, Any] = {}
        for secret in secrets:
            event = Webhook(secret).verify(self.body, self.headers)
        return event


@dataclass
class Receivers:
    """The URL of each kind, and everything that was received."""

    urls: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, kind: str) -> list[Received]:
        """What the receiver of one kind got, in order."""
        return [each for each in self.received if each.kind == kind]

    def times(self, received: Received) -> int:
        """How often its kind had been sent this event by then."""
        earlier = self.received[: self.received.index(received) + 1]
        return sum(each.id == received.id and each.kind == received.kind for each in earlier)


Behaviour = Callable[[Receivers, Received, asyncio.StreamWriter], Awaitable[None]]


def _answering(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    async def answer(_: Receivers, __: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return answer


def _at_first(count: int, first: Behaviour, then: Behaviour) -> Behaviour:
    """Behaves in one way `count` times for each event, then in another."""

    async def answer(receivers: Receivers, received: Received, writer: asyncio.StreamWriter) -> None:
        chosen = first if receivers.times(received) <= count else then
        await chosen(receivers, received, writer)

    return answer


async def _hang(receivers: Receivers, _: Received, __: asyncio.StreamWriter) -> None:
    await receivers.closing.wait()


async def _drip(receivers: Receivers, _: Received, writer: asyncio.StreamWriter) -> None:
    """A head that never ends, a byte at a time: no read waits for long."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while not receivers.closing.is_set():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(_DRIP_S)


async def _reset(_: Receivers, __: Received, writer: asyncio.StreamWriter) -> None:
    """RST in place of an answer."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _trickle(receivers: Receivers, _: Received, writer: asyncio.StreamWriter) -> None:
    """A whole head, and a body that never comes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    await receivers.closing.wait()


OK = _answering(204)
BEHAVIOURS: Mapping[str, Behaviour] = {
    "ok": OK,
    "flaky": _at_first(2, _answering(500), OK),
    "redirect": _answering(302, location="http://127.0.0.1:1/elsewhere"),
    "hang": _hang,
    "drip": _drip,
    "huge": _answering(200, _HUGE),
    "reset": _at_first(1, _reset, OK),
    "gone": _answering(410),
    "busy": _at_first(1, _answering(429, retry_after="1"), OK),
    "trickle": _trickle,
    "late": _at_first(1, _hang, OK),
}
WILLING = ("ok", "flaky", "huge", "reset", "busy", "late")
"""Those that take every event in the end."""


@contextmanager
def receiving(*kinds: str) -> Iterator[Receivers]:
    """Receivers of these kinds, in a thread of their own, on loopback."""
    receivers, started = Receivers(), threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        for kind in kinds:
            server = await asyncio.start_server(partial(_handle, receivers, kind), "127.0.0.1", 0)
            receivers.urls[kind] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        started.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()
        receivers.closing.set()
        if serving := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(serving, timeout=10))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    try:
        yield receivers
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _handle(
    receivers: Receivers, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        received = Received(kind, time.time(), request.split(" ")[1], headers, body)
        receivers.received.append(received)
        await BEHAVIOURS[kind](receivers, received, writer)
    writer.close()
