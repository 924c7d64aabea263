"""The way to replicas: by a channel where there is one, else by a handle; whatever goes wrong, in our words."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.channel import Channels, ChannelServer
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaLostError
from serve_apps.model_server import ModelFailure
from serve_apps.replica_call import ReplicaCalls

pytestmark = pytest.mark.anyio

ROWS = {"x": np.ones((1, 1), np.float32)}
LOAD = Load("ing_a", 0.0, 0)


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


def answer_of(text: bytes) -> ReplicaAnswer:
    return ReplicaAnswer([text], [0], {}, 1.0)


class Response:
    """What a handle gives for a call."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.is_cancelled = False

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if self._outcome is None:
            await asyncio.Event().wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        self.is_cancelled = True


class Handle:
    """A Serve handle whose calls all end alike; None: never."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.responses: list[Response] = []
        self.predict = self.ping = self

    def remote(self, *_: object) -> Response:
        self.responses.append(Response(self._outcome))
        return self.responses[-1]


def calls_with(outcome: Any, channels: Channels | None = None) -> tuple[ReplicaCalls, Handle]:
    calls, handle = ReplicaCalls(channels, calls_per_replica=1), Handle(outcome)
    calls._handles["dep_a"] = handle
    return calls, handle


@pytest.fixture
def may_end() -> asyncio.Event:
    """Set when the replica is to be done with its call of two rows."""
    return asyncio.Event()


@pytest.fixture
async def channels(may_end: asyncio.Event) -> AsyncIterator[Channels]:
    """To one replica that answers `short`; a call of two rows takes it until it `may_end`."""

    async def answer(call: Any) -> Any:
        rows = len(call[0]["x"])
        if rows == 2:
            await may_end.wait()
        return PlatformError("signature_mismatch", "wrong") if rows == 3 else answer_of(b"short")

    with tempfile.TemporaryDirectory(prefix="fyre-ch-") as folder:
        server = ChannelServer(Path(folder) / "dep_a" / "1", answer)
        await server.start()
        made = Channels(Path(folder), clock=lambda: 0.0)
        yield made
        may_end.set()
        await made.forget(frozenset())
        await server.close()


async def test_the_short_way_is_taken_where_there_is_one(channels: Channels) -> None:
    calls, handle = calls_with(answer_of(b"long"), channels)
    assert (await calls("dep_a", ROWS, 5, LOAD)).results == [b"short"]
    assert handle.responses == []


async def test_a_replica_that_is_busy_is_one_among_others_for_serve(
    channels: Channels, may_end: asyncio.Event
) -> None:
    calls, _ = calls_with(answer_of(b"long"), channels)
    held = asyncio.ensure_future(calls("dep_a", {"x": np.ones((2, 1))}, 60, LOAD))
    channel = await channels.least_busy("dep_a")
    assert channel is not None
    async with asyncio.timeout(30):
        while not channel.busy:  # noqa: ASYNC110 - what is looked at announces nothing
            await asyncio.sleep(0.005)
    assert (await calls("dep_a", ROWS, 5, LOAD)).results == [b"long"]
    may_end.set()
    assert (await held).results == [b"short"]


async def test_where_there_is_none_serve_finds_the_way(tmp_path: Path) -> None:
    calls, _ = calls_with(answer_of(b"long"), Channels(tmp_path))
    assert (await calls("dep_a", ROWS, 5, LOAD)).results == [b"long"]


async def test_what_left_by_the_short_way_ends_when_the_replica_answers(
    channels: Channels, may_end: asyncio.Event
) -> None:
    """Its caller has a deadline and does not wait for it; the replica is busy until then, and must not look free."""
    calls, _ = calls_with(None, channels)
    assert (await calls("dep_a", ROWS, 5, LOAD)).results == [b"short"]
    late = calls("dep_a", {"x": np.ones((2, 1))}, 0.05, LOAD)
    assert isinstance(late, asyncio.Future)
    await asyncio.wait({late}, timeout=0.1)
    assert not late.done()
    may_end.set()
    assert (await late).results == [b"short"]


async def test_deadlines_hold_while_the_way_is_looked_for_and_by_a_handle(channels: Channels) -> None:
    calls, _ = calls_with(None, channels)
    with pytest.raises(PlatformError) as caught:
        await calls("dep_a", {"x": np.ones((2, 1))}, 0.05, LOAD)
    assert caught.value.code == "deadline_exceeded"
    calls, handle = calls_with(None)
    with pytest.raises(PlatformError) as caught:
        await calls("dep_a", ROWS, 0.05, LOAD)
    assert caught.value.code == "deadline_exceeded"
    assert handle.responses[0].is_cancelled


async def test_what_the_model_failed_with_is_said(channels: Channels) -> None:
    by_channel, _ = calls_with(None, channels)
    by_handle, _ = calls_with(ModelFailure("signature_mismatch", "wrong"))
    for calls in (by_channel, by_handle):
        with pytest.raises(PlatformError, match="wrong") as caught:
            await calls("dep_a", {"x": np.ones((3, 1))}, 5, LOAD)
        assert caught.value.code == "signature_mismatch"


class Unavailable(grpc.aio.AioRpcError):
    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


@pytest.mark.parametrize("error", [ActorDiedError(), Unavailable(), asyncio.CancelledError()])
async def test_a_replica_that_dies_is_lost(error: BaseException) -> None:
    """A cancellation that nobody here asked for is the replica's."""
    calls, _ = calls_with(error)
    with pytest.raises(ReplicaLostError):
        await calls("dep_a", ROWS, 5, LOAD)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), "overloaded"),
        (DeploymentUnavailableError("gone"), "unavailable"),
        (RuntimeError("what is this"), "unavailable"),
    ],
)
async def test_what_serve_raises_is_translated(error: Exception, code: str) -> None:
    calls, _ = calls_with(error)
    with pytest.raises(PlatformError) as caught:
        await calls("dep_a", ROWS, 5, LOAD)
    assert (caught.value.code, caught.value.retry_after_s) == (code, 1)


async def test_a_caller_that_gives_up_takes_its_call_along() -> None:
    calls, handle = calls_with(None)
    call = asyncio.ensure_future(calls("dep_a", ROWS, 5, LOAD))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert handle.responses[0].is_cancelled


async def test_waking_waits_for_an_answer_and_no_longer_than_asked() -> None:
    calls, handle = calls_with("there")
    await calls.wake("dep_a", 5)
    assert len(handle.responses) == 1
    calls, _ = calls_with(None)
    with pytest.raises(PlatformError) as caught:
        await calls.wake("dep_a", 0.05)
    assert caught.value.code == "deadline_exceeded"
