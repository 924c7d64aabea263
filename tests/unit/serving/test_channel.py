"""The short way between an ingress and a replica, over real sockets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fyretoolkit.serving.channel import Channels, ChannelServer
from fyretoolkit.serving.replica import ReplicaLostError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: a socket's path may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="fyre-ch-") as name:
        yield Path(name)


class Replica:
    """Answers with twice what it gets, once it may."""

    def __init__(self, path: Path) -> None:
        self.server = ChannelServer(path, self.answer)
        self.asked: list[Any] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def answer(self, content: Any) -> Any:
        self.asked.append(content)
        await self.may_answer.wait()
        if type(content) is str:
            raise LookupError(content)
        return content * 2


@pytest.fixture
async def replica(folder: Path) -> AsyncIterator[Replica]:
    made = Replica(folder / "dep_a" / "1")
    await made.server.start()
    yield made
    made.may_answer.set()
    await made.server.close()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def channels(folder: Path, clock: Clock) -> AsyncIterator[Channels]:
    made = Channels(folder, clock=clock)
    yield made
    await made.forget(frozenset())


async def reached(what: Any) -> None:
    """Until it is so."""
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 - what is looked at announces nothing
            await asyncio.sleep(0.005)


async def test_there_and_back(replica: Replica, channels: Channels) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    assert await channel.call(21) == 42
    array = np.arange(1_000_000, dtype=np.float32)
    assert (await channel.call(array) == array * 2).all()
    assert channel.busy == 0


async def test_answers_find_their_calls(replica: Replica, channels: Channels) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    replica.may_answer.clear()
    calls = [asyncio.create_task(channel.call(number)) for number in range(20)]
    await reached(lambda: len(replica.asked) == 20)
    assert channel.busy == 20
    replica.may_answer.set()
    assert [await call for call in calls] == [2 * number for number in range(20)]


async def test_what_the_replica_raises_is_raised(replica: Replica, channels: Channels) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    with pytest.raises(LookupError, match="unknown"):
        await channel.call("unknown")
    assert await channel.call(1) == 2


class OfTwoError(Exception):
    """Is pickled, and cannot be read again: its constructor takes more than it keeps."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first + second)


@pytest.mark.parametrize(
    ("found", "error"), [(lambda: 1, RuntimeError), (OfTwoError(1, 2), TypeError)], ids=["written", "read"]
)
async def test_an_answer_that_cannot_be_carried_ends_its_call(
    folder: Path, channels: Channels, found: object, error: type[Exception]
) -> None:
    """As an error: a call without an end would hold its place at the replica for good."""

    async def answer(_: object) -> object:
        return found

    server = ChannelServer(folder / "dep_a" / "1", answer)
    await server.start()
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    for _ in range(2):
        with pytest.raises(error):
            await asyncio.wait_for(channel.call(1), 30)
    assert channel.busy == 0
    await server.close()


async def test_nobody_is_there(folder: Path, channels: Channels) -> None:
    assert await channels.least_busy("dep_a") is None


async def test_the_least_busy_is_chosen(folder: Path, replica: Replica, channels: Channels) -> None:
    second = Replica(folder / "dep_a" / "2")
    await second.server.start()
    replica.may_answer.clear()
    second.may_answer.clear()
    calls = []
    for _ in range(4):
        channel = await channels.least_busy("dep_a")
        assert channel is not None
        calls.append(asyncio.create_task(channel.call(1)))
        await asyncio.sleep(0)
    await reached(lambda: len(replica.asked) + len(second.asked) == 4)
    assert (len(replica.asked), len(second.asked)) == (2, 2)
    replica.may_answer.set()
    second.may_answer.set()
    assert [await call for call in calls] == [2, 2, 2, 2]
    await second.server.close()


async def test_one_that_comes_later_is_found(
    folder: Path, replica: Replica, channels: Channels, clock: Clock
) -> None:
    first = await channels.least_busy("dep_a")
    second = Replica(folder / "dep_a" / "2")
    await second.server.start()
    replica.may_answer.clear()
    assert first is not None
    call = asyncio.create_task(first.call(1))
    await reached(lambda: len(replica.asked) == 1)
    clock.now += 1
    await channels.least_busy("dep_a")
    await reached(lambda: len(channels._open["dep_a"]) == 2)
    other = await channels.least_busy("dep_a")
    assert other is not None
    assert await other.call(3) == 6
    assert second.asked == [3]
    replica.may_answer.set()
    await call
    await second.server.close()


async def test_one_that_ends_answers_what_it_has_and_gets_no_more(
    replica: Replica, channels: Channels, folder: Path
) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    replica.may_answer.clear()
    call = asyncio.create_task(channel.call(1))
    await reached(lambda: replica.asked)
    ending = asyncio.create_task(replica.server.close())
    await reached(lambda: not channel.is_open)
    assert await channels.least_busy("dep_a") is None
    assert not ending.done()
    replica.may_answer.set()
    assert await call == 2
    await asyncio.wait_for(ending, 30)
    assert not (folder / "dep_a").exists()


async def test_one_that_dies_is_known_at_once(folder: Path, channels: Channels, clock: Clock) -> None:
    """Who waits learns it, its file is removed, and the pid may come again."""
    path = folder / "dep_a" / "1"
    path.parent.mkdir()
    taken = asyncio.Event()

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.transport.abort()
        taken.set()

    server = await asyncio.start_unix_server(die, str(path))
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    with pytest.raises(ReplicaLostError):
        await asyncio.wait_for(channel.call(1), 30)
    server.close()
    assert path.exists()
    clock.now += 1
    assert await channels.least_busy("dep_a") is None
    assert not path.exists()
    again = Replica(path)
    await again.server.start()
    clock.now += 1
    found = await channels.least_busy("dep_a")
    assert found is not None
    assert await found.call(2) == 4
    await again.server.close()


async def test_who_stops_waiting_leaves_the_others_their_answers(
    replica: Replica, channels: Channels
) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    replica.may_answer.clear()
    gone = asyncio.create_task(channel.call(1))
    there = asyncio.create_task(channel.call(2))
    await reached(lambda: len(replica.asked) == 2)
    gone.cancel()
    await asyncio.wait({gone})
    assert channel.busy == 2, "the replica still has it"
    replica.may_answer.set()
    assert await there == 4
    await reached(lambda: channel.busy == 0)


async def test_applications_that_are_gone_are_forgotten(replica: Replica, channels: Channels) -> None:
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    await channels.forget(frozenset({"dep_a"}))
    assert channel.is_open
    await channels.forget(frozenset({"dep_b"}))
    await reached(lambda: not channel.is_open)
