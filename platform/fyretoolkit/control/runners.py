"""The runners that stand by, as the controller keeps them: how many there are, who gets the next run."""

from __future__ import annotations

import time
from collections.abc import Iterable

import ray

from batch.actor import NAMESPACE, create_standby
from fyretoolkit.control.threads import SERVE, run_in
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.runners import StandbyRunner, choose_runner, count_missing
from fyretoolkit.settings import Settings
from fyretoolkit.store.runners import RunnerStore

_PAUSE_S = 10.0
"""Behind one that died without a run: what kills it may kill the next one too."""


class StandbyRunners:
    """Of one controller. A new controller finds those of the old one by their names, in Redis."""

    def __init__(self, settings: Settings, runners: RunnerStore) -> None:
        self._size = settings.batch.standby_runners
        self._runners = runners
        self._standing: list[StandbyRunner] = []
        self._start_at = 0.0

    async def look(self) -> None:
        """Take note of who stands by, without those that died."""
        standing = await self._runners.standing()
        living = await run_in(SERVE, _living, [each.name for each in standing])
        dead = [each for each in standing if each.name not in living]
        if dead:
            self._start_at = time.monotonic() + _PAUSE_S
            await self._runners.withdraw(dead)
        self._standing = [each for each in standing if each.name in living]

    def take(self, org: str) -> StandbyRunner | None:
        """Who is to have a run of this organization; nobody is asked twice between two looks."""
        chosen = choose_runner(self._standing, org)
        if chosen is not None:
            self._standing.remove(chosen)
        return chosen

    def give_back(self, runner: StandbyRunner) -> None:
        """It was given no run after all."""
        self._standing.append(runner)

    async def refill(self) -> None:
        """Start those that are missing; each is entered first, so that none is there which nobody knows of."""
        if time.monotonic() < self._start_at:
            return
        for _ in range(count_missing(self._standing, self._size)):
            runner = StandbyRunner(new_id("runner"), is_up=False)
            await self._runners.enter(runner)
            self._standing.append(runner)
            await run_in(SERVE, create_standby, runner.name)


def find_actor(name: str) -> ray.actor.ActorHandle | None:
    """The living actor of this name."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:  # Ray's word for "no such living actor"
        return None


def _living(names: Iterable[str]) -> set[str]:
    return {name for name in names if find_actor(name) is not None}
