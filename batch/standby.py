"""A runner's life: the run it has, or waits for, and perhaps another of the same organization.

It learns of its run from Redis, where the claim left it, and not by a call, which is lost with its caller. One that
nobody knows of any more leaves: it is in no set and was given nothing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.runners import GivenRun, StandbyRunner
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.runners import RunnerStore

_LOOK_S = 1
_ASK_AGAIN_S = 0.5
LINGER_S = 10.0
"""So long a runner stays for the next job of its organization: many small ones one after another need one process."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a runner lives by."""

    runners: RunnerStore
    run: Callable[[GivenRun], Awaitable[bool]]
    """Executes a run; whether the process is fit for another of the same organization."""
    show: Callable[[bool], None]
    """Is told whether it has a run."""
    linger_s: float = LINGER_S


async def live(means: Means, name: str, first: GivenRun | None) -> None:
    """Have the first run, or stand by for it, and then those that follow. Raises what a run raises."""
    given = first
    if given is None:
        means.show(False)
        given = await _wait(means.runners, StandbyRunner(name))
    while given is not None:
        means.show(True)
        is_fit = await means.run(given)
        means.show(False)
        given = await _linger(means, StandbyRunner(name, given.org)) if is_fit and means.linger_s else None


async def _linger(means: Means, runner: StandbyRunner) -> GivenRun | None:
    until = time.monotonic() + means.linger_s
    try:
        await means.runners.enter(runner)
    except PlatformError:
        return None
    return await _wait(means.runners, runner, until)


async def _wait(runners: RunnerStore, runner: StandbyRunner, until: float | None = None) -> GivenRun | None:
    """The run it is given; None if that is none by `until`, or nobody knows of it."""
    is_up = False
    while True:
        try:
            if not is_up:
                await runners.come_up(runner)
                is_up = True
            if (run := await runners.given(runner.name, _LOOK_S)) is not None:
                return run
            if not await runners.stands(runner):
                return await runners.given(runner.name, _LOOK_S)  # by that very moment, or never
            if until is not None and time.monotonic() >= until and await runners.withdraw([runner]):
                return None
        except PlatformError:
            await asyncio.sleep(_ASK_AGAIN_S)


async def is_fit_for_more(store: Store, job_ttl_s: int, run: GivenRun) -> bool:
    """Whether the run left nothing behind in its process: its job completed, and Ray Data was not needed.

    Ray Data's context is global to a process, and threads of a run that was stopped may work on.
    """
    if "ray.data" in sys.modules:
        return False
    job = await JobStore(store, job_ttl_s).get(run.org, run.job)
    return job is not None and job.status is JobStatus.COMPLETED and job.epoch == run.epoch
