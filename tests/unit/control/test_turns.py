"""Whose turn it is."""

from __future__ import annotations

import asyncio

import pytest

from fyretoolkit.control.turns import Turns

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio alone."""
    return "asyncio"


class Work:
    """Pieces of work that end when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.running: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    def ask(self, *names: str) -> None:
        """Ask for turns; the first letter of a name is the organization."""
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name))

    async def _run(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.running.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.remove(name)

    async def now(self) -> list[str]:
        """What runs, once everything that can begin has begun."""
        for _ in range(5):
            await asyncio.sleep(0)
        return list(self.running)

    async def end(self, name: str) -> list[str]:
        """End one; what runs then."""
        self.ends[name].set()
        return await self.now()


async def test_no_organization_takes_every_turn() -> None:
    """Of twenty at once one runs; another organization's only one runs beside it at once."""
    work = Work(Turns(2, of_one=1))
    work.ask(*(f"a{number}" for number in range(20)))
    assert await work.now() == ["a0"]
    work.ask("b0")
    assert await work.now() == ["a0", "b0"]
    work.ask("c0")
    assert await work.now() == ["a0", "b0"]
    assert work.turns.taken == 2
    assert await work.end("a0") == ["b0", "c0"], "not a1: c was not served yet"
    assert await work.end("b0") == ["c0", "a1"]
    for task in work.tasks.values():
        task.cancel()


async def test_who_stops_waiting_is_dropped_and_who_is_cancelled_makes_room() -> None:
    work = Work(Turns(1, of_one=1))
    work.ask("a0", "a1", "a2", "a3")
    assert await work.now() == ["a0"]
    work.tasks["a1"].cancel()
    assert await work.now() == ["a0"]
    work.tasks["a0"].cancel()
    assert await work.now() == ["a2"]
    assert await work.end("a2") == ["a3"]
    assert await work.end("a3") == []
    work.ask("b0")
    assert await work.now() == ["b0"]
    await work.end("b0")


async def test_a_turn_that_comes_as_its_owner_is_cancelled_is_not_lost() -> None:
    work = Work(Turns(1, of_one=1))
    work.ask("a0", "a1", "a2")
    await work.now()
    work.ends["a0"].set()
    await asyncio.sleep(0)  # a0 wakes up and gives its turn to a1, which has not woken up yet
    work.tasks["a1"].cancel()
    assert await work.now() == ["a2"]
    await work.end("a2")
