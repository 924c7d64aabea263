"""A replica that has a call is not free before it is done with it, whoever still waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.coalescer import Coalescer
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaLostError
from tests.support.coalescing import KILLER, ROUTE, SETTINGS, request, values

pytestmark = pytest.mark.anyio

_SOON_MS = 100


class OneReplica:
    """Doubles every row; runs one call after another, each when the test says so. A killer takes all that it has."""

    def __init__(self) -> None:
        self.came: list[list[float]] = []
        self._has: deque[tuple[list[float], asyncio.Future[ReplicaAnswer]]] = deque()

    @property
    def backlog(self) -> int:
        """Calls that it has."""
        return len(self._has)

    def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> Awaitable[ReplicaAnswer]:
        """A call has left, as by the short way."""
        rows = arrays["x"][:, 0].tolist()
        self.came.append(rows)
        self._has.append((rows, asyncio.get_running_loop().create_future()))
        return self._has[-1][1]

    def run(self) -> None:
        """The next call."""
        if KILLER in self._has[0][0]:
            self.die()
            return
        rows, answer = self._has.popleft()
        if not answer.done():
            answer.set_result(ReplicaAnswer([b"%g" % (2 * row) for row in rows], range(len(rows)), {}, 1.0))

    def die(self) -> None:
        """With all that it has; the next one is there at once."""
        while self._has:
            _, answer = self._has.popleft()
            if not answer.done():
                answer.set_exception(ReplicaLostError())

    async def wake(self, application: str, timeout_s: float) -> None:
        raise AssertionError(application)

    async def forget(self, applications: frozenset[str]) -> None:
        raise AssertionError(applications)


class Scene:
    """A coalescer before one such replica."""

    def __init__(self) -> None:
        self.replica = OneReplica()
        self.coalescer = Coalescer(self.replica, SETTINGS, source="ing_a", draw=lambda: 0.0)
        self.route = replace(ROUTE, max_batch_size=1)

    def send(self, wanted: Request) -> asyncio.Task[Share]:
        return asyncio.create_task(self.coalescer.run(self.route, wanted))

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(20):
            await asyncio.sleep(0)


async def late(*tasks: asyncio.Task[Share]) -> None:
    """All of these end at their deadlines, or were refused."""
    for task in tasks:
        with pytest.raises(PlatformError) as caught:
            await asyncio.wait_for(task, 30)
        assert caught.value.code in ("deadline_exceeded", "overloaded")


async def test_callers_with_short_deadlines_build_no_backlog_in_a_replica() -> None:
    """However many there are: it has as many calls as it may have, and a patient caller is next after those."""
    scene = Scene()
    for _ in range(5):
        await late(*[scene.send(request(1.0, timeout_ms=_SOON_MS)) for _ in range(4)])
    assert scene.replica.backlog == SETTINGS.calls_per_replica
    patient = scene.send(request(7.0))
    await scene.settle()
    for _ in range(SETTINGS.calls_per_replica + 1):
        scene.replica.run()
        await scene.settle()
    assert await values(patient) == [b"14"]
    assert len(scene.replica.came) == SETTINGS.calls_per_replica + 1
    assert scene.coalescer.is_idle


async def test_callers_that_hang_up_build_none_either() -> None:
    scene = Scene()
    for _ in range(5):
        gone = scene.send(request(1.0))
        await scene.settle()
        gone.cancel()
        await scene.settle()
    assert scene.replica.backlog == SETTINGS.calls_per_replica


async def test_a_replica_that_dies_gives_its_slots_back() -> None:
    """What nobody waits for any more is not run again."""
    scene = Scene()
    await late(*[scene.send(request(1.0, timeout_ms=_SOON_MS)) for _ in range(2)])
    scene.replica.die()
    await scene.settle()
    assert scene.coalescer.is_idle
    patient = scene.send(request(7.0))
    await scene.settle()
    scene.replica.run()
    assert await values(patient) == [b"14"]
    assert scene.replica.came == [[1.0], [1.0], [7.0]]


async def test_a_late_answer_says_how_fast_the_model_is() -> None:
    """Though nothing waits behind it: the time until its deadline counted as empty, and a success ends that."""
    scene = Scene()
    rates = []
    for _ in range(3):
        await late(scene.send(request(1.0, timeout_ms=_SOON_MS)))
        scene.replica.run()
        await scene.settle()
        rates.append(scene.coalescer._gate.rate.per_s or 0.0)
    assert all(0.1 < rate <= 1000 / _SOON_MS for rate in rates)


async def test_a_coalescer_that_closes_waits_for_no_replica() -> None:
    scene = Scene()
    await late(scene.send(request(1.0, timeout_ms=_SOON_MS)))
    await asyncio.wait_for(scene.coalescer.close(), 30)
    assert scene.coalescer.is_idle


async def run_all(scene: Scene) -> None:
    """The replica runs what it has, and what comes meanwhile, until nothing is left."""
    await scene.settle()
    while scene.replica.backlog:
        scene.replica.run()
        await scene.settle()


async def test_who_kills_a_replica_twice_harms_no_neighbour_twice() -> None:
    """A replica has two calls, and loses both: of those that run again, no two are there together."""
    scene = Scene()
    killer, *others = tasks = [scene.send(request(row)) for row in (KILLER, 1.0, 2.0, 3.0)]
    await run_all(scene)
    assert [await values(task) for task in others] == [[b"2"], [b"4"], [b"6"]]
    with pytest.raises(PlatformError) as caught:
        await killer
    assert caught.value.code == "unavailable"
    assert scene.replica.came.count([KILLER]) == 2
    assert all(task.done() for task in tasks)
    assert scene.coalescer.is_idle


async def test_who_comes_anew_is_not_held_up_by_what_runs_again() -> None:
    """The other slot is theirs."""
    scene = Scene()
    again = [scene.send(request(row)) for row in (1.0, 2.0)]
    await scene.settle()
    scene.replica.die()
    anew = scene.send(request(3.0))
    await scene.settle()
    assert scene.replica.came[2:] == [[1.0], [3.0]]
    await run_all(scene)
    assert [await values(task) for task in (*again, anew)] == [[b"2"], [b"4"], [b"6"]]


async def test_one_that_runs_again_for_nobody_holds_up_no_other() -> None:
    """A replica that hangs with it would keep it, and them, for good."""
    scene = Scene()
    first, second = (scene.send(request(row)) for row in (1.0, 2.0))
    await scene.settle()
    scene.replica.die()
    await scene.settle()
    assert scene.replica.came[2:] == [[1.0]]
    first.cancel()
    await scene.settle()
    assert scene.replica.came[2:] == [[1.0], [2.0]]
    await run_all(scene)
    assert await values(second) == [b"4"]
