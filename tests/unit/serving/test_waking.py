"""Requests for a deployment without replicas: the controller is told first, Serve is called if nothing came of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.waking import Alarm
from tests.support.coalescing import ROUTE, Bench, request, values

pytestmark = pytest.mark.anyio

ASLEEP = replace(ROUTE, replicas=0)


class Controller:
    """Hears who is to be woken; whether it can be told is for the test to say."""

    def __init__(self, error: PlatformError | None = None) -> None:
        self.heard: list[tuple[str, str]] = []
        self.error = error

    async def ask(self, org: str, deployment: str) -> None:
        self.heard.append((org, deployment))
        if self.error:
            raise self.error


async def test_who_waits_goes_to_the_replica_that_stood_by() -> None:
    """The deployment was given another application meanwhile: Serve is not asked to start anything."""
    controller = Controller()
    bench = Bench(route=ASLEEP, alarm=Alarm(controller.ask, grace_s=60))
    bench.replicas.is_open.set()
    tasks = [bench.send(request(row)) for row in (1.0, 2.0)]
    await bench.settle()
    assert controller.heard == [("org_a", "dep_a")]
    bench.replicas.application = "sby_b"
    bench.coalescer.move("sby_b")
    assert [await values(task) for task in tasks] == [[b"2"], [b"4"]]
    assert bench.replicas.wakes == 0
    await bench.coalescer.close()


@pytest.mark.parametrize("error", [None, PlatformError("unavailable")])
async def test_without_one_that_stands_by_serve_starts_one(error: PlatformError | None) -> None:
    """Nothing came of it in time, or the controller could not be told."""
    bench = Bench(route=ASLEEP, alarm=Alarm(Controller(error).ask, grace_s=0.01))
    bench.replicas.is_open.set()
    bench.replicas.is_awake.set()
    assert await values(bench.send(request(1.0))) == [b"2"]
    assert bench.replicas.wakes == 1
    await bench.coalescer.close()


async def test_an_old_route_does_not_lead_back() -> None:
    """A request that was routed before the move joins the queue after it: its route names what is gone."""
    bench = Bench()
    bench.replicas.is_open.set()
    assert await values(bench.send(request(1.0))) == [b"2"]
    bench.replicas.application = "sby_b"
    bench.coalescer.move("sby_b")
    assert await values(bench.send(request(2.0))) == [b"4"]
    await bench.coalescer.close()


async def test_deleted_in_its_sleep_it_lets_go() -> None:
    """Nobody is woken any more, and who waited is told."""
    bench = Bench(route=ASLEEP, alarm=Alarm(Controller().ask, grace_s=60))
    task = bench.send(request(1.0))
    await bench.settle()
    await bench.coalescer.close()
    with pytest.raises(PlatformError) as caught:
        await asyncio.wait_for(task, 30)
    assert caught.value.code == "unavailable"


async def test_a_store_that_hangs_holds_nobody_up() -> None:
    """Word cannot be left, and who leaves it does not hear that it is to stop: Serve is asked after the same grace."""
    answers = asyncio.Event()

    async def hang(org: str, deployment: str) -> None:
        while not answers.is_set():
            with suppress(asyncio.CancelledError):
                await answers.wait()

    bench = Bench(route=ASLEEP, alarm=Alarm(hang, grace_s=0.01))
    bench.replicas.is_open.set()
    bench.replicas.is_awake.set()
    assert await asyncio.wait_for(values(bench.send(request(1.0))), 30) == [b"2"]
    assert bench.replicas.wakes == 1
    answers.set()
    await bench.coalescer.close()


async def test_who_is_too_late_for_the_queue_wakes_it_all_the_same() -> None:
    """A caller that never has time would else never have a replica, and be told that one was too slow."""
    bench = Bench(route=ASLEEP)
    late = request(1.0, timeout_ms=1)
    await asyncio.sleep(0.01)
    with pytest.raises(PlatformError) as caught:
        await bench.send(late)
    assert (caught.value.code, bool(caught.value.retry_after_s)) == ("unavailable", True)
    await bench.settle()
    assert bench.replicas.wakes == 1
    await bench.coalescer.close()
