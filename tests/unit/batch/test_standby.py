"""A runner's life over a real store: what it is given, however it learns of it, and when it leaves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from batch.standby import Means, is_fit_for_more, live
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.runners import GivenRun, StandbyRunner
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.runners import RunnerStore
from tests.support.api_bench import until
from tests.unit.batch.bench import ORG, Bench

pytestmark = pytest.mark.anyio

NAME = "runner_1"
ME = StandbyRunner(NAME, is_up=False)


@dataclass
class Life:
    """A runner, what it did, and the store that it lives by."""

    bench: Bench
    store: Store
    is_fit: bool = True
    runs: list[GivenRun] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)

    @property
    def runners(self) -> RunnerStore:
        """Where it is entered."""
        return RunnerStore(self.store)

    def begin(self, first: GivenRun | None = None, linger_s: float = 0.0) -> asyncio.Task[None]:
        """Let it live."""

        async def run(given: GivenRun) -> bool:
            self.runs.append(given)
            return self.is_fit

        means = Means(self.runners, run, self.shown.append, linger_s)
        return asyncio.create_task(live(means, NAME, first))

    async def claim(self, runner: StandbyRunner | None, org: str = ORG) -> GivenRun | None:
        """A new job's first run, given to this runner; None if that was refused."""
        job = await self.bench.create_job_over("file:///x", org=org)
        epoch = await JobStore(self.store, 60).claim_run(job.org, job.id, lease_s=60, runner=runner)
        return GivenRun(job.org, job.id, epoch) if epoch else None

    async def standing(self) -> list[StandbyRunner]:
        """Who is entered, once this one is up."""
        standing: list[StandbyRunner] = []

        async def is_up() -> bool:
            standing[:] = await self.runners.standing()
            return bool(standing) and all(each.is_up for each in standing)

        await until(is_up)
        return standing


@pytest.fixture
async def life(bench: Bench) -> AsyncIterator[Life]:
    """One that has not begun."""
    life = Life(bench, bench.store())
    yield life
    await life.store.close()


async def test_a_runner_that_stands_by_begins_what_it_is_given(life: Life) -> None:
    """Once up it says so; the claim takes it off the list and says in the job who has the run."""
    await life.runners.enter(ME)
    living = life.begin()
    assert await life.standing() == [StandbyRunner(NAME)]
    given = await life.claim(StandbyRunner(NAME))
    await asyncio.wait_for(living, 60)
    assert life.runs == [given]
    assert life.shown == [False, True, False]
    assert await life.runners.standing() == []
    assert given is not None
    job = await JobStore(life.store, 60).get(given.org, given.job)
    assert job is not None
    assert (job.runner, job.status, job.epoch) == (NAME, JobStatus.PROCESSING, 1)


async def test_a_run_that_was_given_before_the_runner_was_up_is_not_lost(life: Life) -> None:
    """Nor does it stand by then, as if it had none."""
    await life.runners.enter(ME)
    given = await life.claim(ME)
    await asyncio.wait_for(life.begin(), 60)
    assert life.runs == [given]
    assert await life.runners.standing() == []


async def test_nobody_is_given_two_runs(life: Life) -> None:
    """Whoever claims second is refused, and the job is claimed by nobody."""
    await life.runners.enter(ME)
    given = [await life.claim(ME) for _ in range(2)]
    assert given[0] is not None
    assert given[1] is None
    waiting = await life.store.redis.zrange(keys.QUEUED_JOBS, 0, -1)
    assert len(waiting) == 1


async def test_a_runner_that_nobody_knows_of_leaves(life: Life) -> None:
    """Its Redis was emptied, or it was taken for dead: nothing would ever end it."""
    await asyncio.wait_for(life.begin(), 60)
    assert life.runs == []


async def test_a_runner_stays_a_while_for_its_organization(life: Life) -> None:
    """Of the next job it is told as of the first one; nothing else may take it."""
    first = GivenRun(ORG, new_id("job"), 1)
    living = life.begin(first, linger_s=30.0)
    own = StandbyRunner(NAME, ORG)
    assert await life.standing() == [own]
    life.is_fit = False
    given = await life.claim(own)
    await asyncio.wait_for(living, 60)
    assert life.runs == [first, given]
    assert await life.runners.standing() == []


async def test_it_leaves_when_no_job_comes(life: Life) -> None:
    """And takes itself off the list."""
    await asyncio.wait_for(life.begin(GivenRun(ORG, new_id("job"), 1), linger_s=0.1), 60)
    assert len(life.runs) == 1
    assert await life.runners.standing() == []


async def test_a_process_is_fit_for_more_after_a_job_that_completed(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after one that was stopped: threads of it may work on; nor behind a run that was fenced off."""
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)  # another test's
    ended = await life.bench.run(await life.bench.create_job(b'"a"\n'))
    canceled = await life.bench.create_job(b'"a"\n', "other.jsonl")
    await JobStore(life.store, 60).finish(canceled, JobStatus.CANCELED)
    fit = [
        await is_fit_for_more(life.store, 60, GivenRun(ORG, job_id, epoch))
        for job_id, epoch in ((ended.id, 1), (ended.id, 2), (canceled.id, 0), ("job_gone", 1))
    ]
    assert fit == [True, False, False, False]
