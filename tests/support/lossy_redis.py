"""A proxy in front of Redis that loses one reply: what was asked for is done, and the connection breaks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fyretoolkit.store.connection import _source


class LossyRedis:
    """Passes everything on, but for the reply to the next run of one script."""

    def __init__(self, url: str) -> None:
        self._socket = urlsplit(url).path
        self._awaited: bytes | None = None
        self._is_answered_next = False
        self.lost = 0
        """How many replies were lost."""

    def lose_reply(self, script: str) -> None:
        """Of the next run of `scripts/<script>.lua` that succeeds."""
        self._awaited = hashlib.sha1(_source(script).encode()).hexdigest().encode()  # noqa: S324 - as Redis does

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or a reply is lost."""
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._socket)
        asked = asyncio.Event()

        async def forward() -> None:
            while chunk := await reader.read(1 << 20):
                if self._awaited and b"EVALSHA" in chunk and self._awaited in chunk:
                    asked.set()
                upstream_writer.write(chunk)
                await upstream_writer.drain()

        async def answer() -> None:
            while chunk := await upstream_reader.read(1 << 20):
                if asked.is_set():
                    asked.clear()
                    if not chunk.startswith(b"-"):  # not that the script is unknown yet
                        self._awaited = None
                        self.lost += 1
                        return
                writer.write(chunk)
                await writer.drain()

        tasks = [asyncio.create_task(each()) for each in (forward, answer)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in (writer, upstream_writer):
                each.close()


@asynccontextmanager
async def lossy(url: str) -> AsyncIterator[tuple[LossyRedis, str]]:
    """The proxy, and the URL under which it answers."""
    proxy = LossyRedis(url)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield proxy, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
