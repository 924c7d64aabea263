"""Answers that would take a whole event loop: floods before the head, heads without end, bodies in tiny chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress import exchange
from fyretoolkit.egress.fetch import fetch
from fyretoolkit.egress.post import Answer, NotPostedError, post
from fyretoolkit.egress.transfer import Timeouts
from fyretoolkit.egress.urls import Policy

pytestmark = pytest.mark.anyio

TIMEOUTS = Timeouts(connect_s=5, read_s=5, total_s=30)
Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@asynccontextmanager
async def answering(behave: Behaviour) -> AsyncIterator[str]:
    """The URL of a server that reads the head of a request and then does as it pleases."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            await behave(writer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def fetched(url: str, folder: Path, policy: Policy, timeouts: Timeouts = TIMEOUTS) -> bytes:
    found = await fetch(
        url,
        folder / "input",
        policy=policy,
        max_bytes=1 << 20,
        timeouts=timeouts,
        not_found_code="input_not_found",
        unreachable_code="input_unreachable",
        too_large_code="input_too_large",
    )
    return found.path.read_bytes()


async def why_not_fetched(url: str, folder: Path, policy: Policy, timeouts: Timeouts = TIMEOUTS) -> str:
    with pytest.raises(PlatformError) as caught:
        await fetched(url, folder, policy, timeouts)
    assert caught.value.code == "input_unreachable"
    return caught.value.message


async def sent(url: str, policy: Policy, timeouts: Timeouts = TIMEOUTS) -> Answer:
    return await post(url, b"{}", {}, policy=policy, timeouts=timeouts)


async def why_not_sent(url: str, policy: Policy, timeouts: Timeouts = TIMEOUTS) -> str:
    with pytest.raises(NotPostedError) as caught:
        await sent(url, policy, timeouts)
    return str(caught.value)


async def forever(writer: asyncio.StreamWriter, piece: bytes, pause_s: float = 0.0) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)


async def to_go_on(writer: asyncio.StreamWriter) -> None:
    """It never comes to the answer."""
    await forever(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


async def headers(writer: asyncio.StreamWriter) -> None:
    """Each is short, and there is no last one."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await forever(writer, b"x: y\r\n" * 100)


@pytest.mark.parametrize("flood", [to_go_on, headers])
async def test_a_flood_before_the_body_ends_the_exchange(
    flood: Behaviour, tmp_path: Path, development: Policy
) -> None:
    async with answering(flood) as url:
        words = "sent more than 32 KiB before its answer began"
        assert words in await why_not_fetched(url, tmp_path, development)
        assert words in await why_not_sent(url, development)


async def test_a_head_that_drips_has_as_long_as_silence(tmp_path: Path, development: Policy) -> None:
    """Each byte is in time; all of them are to be, together."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        await forever(writer, b"x", 0.05)

    timeouts = replace(TIMEOUTS, read_s=1)
    async with answering(drip) as url:
        words = "began to answer and did not get to it in time"
        assert words in await why_not_fetched(url, tmp_path, development, timeouts)
        assert words in await why_not_sent(url, development, timeouts)


async def test_silence_is_called_so(tmp_path: Path, development: Policy) -> None:
    is_over = asyncio.Event()

    async def hang(_: asyncio.StreamWriter) -> None:
        await is_over.wait()

    timeouts = replace(TIMEOUTS, read_s=0.3)
    async with answering(hang) as url:
        assert "was silent for too long" in await why_not_fetched(url, tmp_path, development, timeouts)
        assert "was silent for too long" in await why_not_sent(url, development, timeouts)
        is_over.set()


async def test_a_server_may_say_that_it_works_and_send_many_headers(
    tmp_path: Path, development: Policy
) -> None:
    """A few interim answers and 20 KiB of headers are nothing unusual, and cost the body nothing."""
    body = bytes(range(256)) * 1000

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + b"HTTP/1.1 200 OK\r\n")
        writer.write(b"set-cookie: %b\r\n" % (b"x" * 1000) * 20)
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with answering(answer) as url:
        assert await fetched(url, tmp_path, development) == body
        assert await sent(url, development) == Answer(200, None)


@pytest.mark.parametrize(("size", "is_slowed"), [(1, True), (1000, False)])
async def test_a_body_in_tiny_chunks_leaves_the_loop_to_others(
    size: int, is_slowed: bool, tmp_path: Path, development: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives all the same: a server may send its rows one by one."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        await sleep(0)

    async def answer(writer: asyncio.StreamWriter) -> None:
        chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 1000 + b"0\r\n\r\n")
        await writer.drain()

    monkeypatch.setattr(asyncio, "sleep", pause)
    async with answering(answer) as url:
        assert await fetched(url, tmp_path, development) == b"x" * size * 1000
    assert (pauses.count(exchange._TINY_PAUSE_S) >= 3) is is_slowed


async def test_of_a_body_in_tiny_chunks_a_post_reads_little(
    development: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is there; what else comes is not worth a loop's time."""
    monkeypatch.setattr("fyretoolkit.egress.post._READ_S", 60)

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await forever(writer, b"1\r\nx\r\n", 0.01)

    async with answering(answer) as url, asyncio.timeout(20):
        assert await sent(url, development) == Answer(200, None)
