"""An HTTP server that says what a test gives it to say, for the clients of `scripts/`; it keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from scripts.benchmarks.load import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Request:
    """What the server read."""

    head: str
    body: bytes
    number: int


@dataclass
class Server:
    """A server on a free port that answers what `answer` gives; None closes the connection without an answer."""

    answer: Callable[[Request], Awaitable[bytes | None]]
    port: int = 0
    connection_count: int = 0
    requests: list[Request] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line[16:] for line in head.split("\r\n") if line.startswith("content-length: ")]
                request = Request(
                    head, await reader.readexactly(int(length[0]) if length else 0), len(self.requests)
                )
                self.requests.append(request)
                content = await self.answer(request)
                if content is None:
                    return
                writer.write(content)
                await writer.drain()
                if b"Connection: close" in content:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def target(self, *bodies: bytes, headers: Mapping[str, str] | None = None) -> Target:
        return Target("127.0.0.1", self.port, "/predict/digits", headers or {}, bodies)


@contextmanager
def serving(answer: Callable[[Request], Awaitable[bytes | None]]) -> Iterator[Server]:
    """The server in a thread of its own: the loops block the test."""
    server, started = Server(answer), threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=1 << 24)
        server.port = listener.sockets[0].getsockname()[1]
        started.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
