"""Runners that stand by, in Redis: who they are, and the run that each was given.

The run is given by the script that claims it, so there is no moment at which it is claimed and nobody has it. It stays
in its list when it is read: a reply that is lost loses no run.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable
from typing import cast

from fyretoolkit.core.runners import GivenRun, StandbyRunner
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, translated

KIND = "runner"
"""How one that is up is named on the changes channel: a job may wait for it."""


class RunnerStore:
    """The repository of runners that stand by."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def standing(self) -> list[StandbyRunner]:
        """All of them, alive or not."""
        async with translated():
            found = cast(
                list[tuple[str, float]],
                await self._store.redis.zrange(keys.STANDBY_RUNNERS, 0, -1, withscores=True),
            )
        return [
            StandbyRunner(name, org, score > 0)
            for (org, _, name), score in ((member.partition(" "), score) for member, score in found)
        ]

    async def enter(self, runner: StandbyRunner) -> None:
        """Let it be given a run from now on; what it was given before is over."""
        async with translated():
            pipeline = self._store.redis.pipeline()
            pipeline.delete(keys.runner(runner.name))
            pipeline.zadd(keys.STANDBY_RUNNERS, {runner.member: int(runner.is_up)})
            if runner.is_up:
                pipeline.publish(keys.CHANGES_CHANNEL, change_message(KIND, runner.org, runner.name))
            await cast(Awaitable[list[object]], pipeline.execute())

    async def come_up(self, runner: StandbyRunner) -> None:
        """Its process is ready. Nothing, if it was given a run meanwhile."""
        async with translated():
            pipeline = self._store.redis.pipeline()
            pipeline.zadd(keys.STANDBY_RUNNERS, {runner.member: 1}, xx=True)
            pipeline.publish(keys.CHANGES_CHANNEL, change_message(KIND, runner.org, runner.name))
            await cast(Awaitable[list[object]], pipeline.execute())

    async def stands(self, runner: StandbyRunner) -> bool:
        """Whether it may be given a run."""
        async with translated():
            return await self._store.redis.zscore(keys.STANDBY_RUNNERS, runner.member) is not None

    async def withdraw(self, runners: Iterable[StandbyRunner]) -> int:
        """Give them no run any more; how many had none until now."""
        members = [runner.member for runner in runners]
        if not members:
            return 0
        async with translated():
            return await self._store.redis.zrem(keys.STANDBY_RUNNERS, *members)

    async def given(self, name: str, wait_s: int) -> GivenRun | None:
        """The run that the runner was given, waited for; None if there is none in time.

        `wait_s` is less than the connection's own patience.
        """
        run = keys.runner(name)
        async with translated():
            text = await cast(
                Awaitable["str | None"], self._store.redis.blmove(run, run, wait_s, src="LEFT", dest="LEFT")
            )
        return GivenRun(**json.loads(text)) if text else None
