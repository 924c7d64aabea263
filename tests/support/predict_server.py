"""The predict endpoint alone behind a real uvicorn, and HTTP/1.1 by hand to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from fyretoolkit.api.callbacks import protocol_of
from fyretoolkit.api.predict import PredictEndpoint
from fyretoolkit.settings import DEMO_KEY


@asynccontextmanager
async def serving(
    endpoint: PredictEndpoint, *, has_short_cut: bool, idle_s: int = 60
) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """Its port and server. `has_short_cut`: plain predictions are answered in the protocol's callbacks."""
    protocol: Any = protocol_of(endpoint) if has_short_cut else "httptools"
    config = uvicorn.Config(
        endpoint,
        http=protocol,
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=idle_s,
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))  # what comes before the server is up waits
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield int(listening.getsockname()[1]), server
    finally:
        server.should_exit = True
        await running
        listening.close()


def token(key: str = DEMO_KEY) -> bytes:
    """The value of an Authorization header."""
    return httpx.BasicAuth(key, "")._auth_header.encode()


def request(
    model: str,
    body: object,
    *more: bytes,
    key: str = DEMO_KEY,
    method: bytes = b"POST",
    content_type: bytes = b"application/json",
) -> bytes:
    """The bytes of one request; `more` are header lines, `body` is JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        b"%b /predict/%b HTTP/1.1" % (method, model.encode()),
        b"host: localhost",
        b"authorization: " + token(key),
        b"content-type: " + content_type,
        b"content-length: %d" % len(content),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


@dataclass
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.content)


class Connection:
    """One connection; answers are read in the order in which requests were sent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def ask(self, content: bytes) -> Answer:
        """Send and read one answer."""
        self.writer.write(content)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next one."""
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:-2])]
            headers = dict(pairs)
            assert len(headers) == len(pairs), f"a header comes twice: {head!r}"
            content = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(lines[0].split(" ")[1]), headers, content)

    async def is_closed(self) -> bool:
        """Whether nothing more comes."""
        async with asyncio.timeout(60):
            return await self.reader.read() == b""
