"""The reconciler of jobs over a real store; Ray's actors are played by a table of living runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fyretoolkit.control import jobs as control
from fyretoolkit.control.jobs import JobReconciler
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.settings import BatchSettings, Settings
from fyretoolkit.store import keys
from fyretoolkit.store.batch_share import read_share
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore

ORG = "org_a"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@dataclass
class Cluster:
    """Which runs live, and what was asked of Ray, in order."""

    living: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    free_cpus: list[float] = field(default_factory=lambda: [2.0])

    def create_runner(self, org: str, job_id: str, epoch: int) -> None:
        """As `batch.actor.create_runner`."""
        assert org == ORG
        self.calls.append(("create", job_id, epoch))
        self.living[job_id] = epoch

    def end_runner(self, job: BatchJob) -> None:
        """As `control.jobs._end_runner`."""
        self.calls.append(("end", job.id, job.epoch))

    def runner(self, job: BatchJob) -> object | None:
        """As `control.jobs._runner`."""
        return object() if self.living.get(job.id) == job.epoch else None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The reconciler finds this one instead of Ray."""
    cluster = Cluster()
    monkeypatch.setattr(control, "create_runner", cluster.create_runner)
    monkeypatch.setattr(control, "_end_runner", cluster.end_runner)
    monkeypatch.setattr(control, "_runner", cluster.runner)
    monkeypatch.setattr(control, "free_cpus", lambda: cluster.free_cpus)
    return cluster


@dataclass
class Desk:
    """A reconciler, its store, and jobs to give it."""

    settings: Settings
    store: Store
    jobs: JobStore
    reconciler: JobReconciler

    async def create(self, **values: Any) -> BatchJob:
        """A queued job."""
        job = BatchJob(
            id=new_id("job"),
            org=ORG,
            status=JobStatus.QUEUED,
            model="m",
            artifact="0" * 64,
            spec={},
            input_url="file:///in.jsonl",
            created=1,
            **values,
        )
        await self.jobs.create(job)
        return job

    async def read(self, job: BatchJob) -> BatchJob:
        """The job as it is now."""
        current = await self.jobs.get(job.org, job.id)
        assert current is not None
        return current

    async def commit(self, job: BatchJob, epoch: int) -> None:
        """One shard of the job, committed by this run."""
        counts = ShardCounts(1, 0, {"results": {"name": "gone", "size_bytes": 1, "sha256": ""}})
        outcome = await self.jobs.commit_shard(job.org, job.id, epoch, 0, counts)
        assert outcome is CommitOutcome.COMMITTED

    async def rest(self, job: BatchJob, seconds: float) -> None:
        """Let this much time pass for the job's newest run."""
        seen_ms = await self.store.now_ms() - int(seconds * 1000)
        await self.store.redis.hset(keys.job(job.org, job.id), "seen_ms", str(seen_ms))


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str, cluster: Cluster) -> AsyncIterator[Desk]:
    """Two jobs at once, three runs a job."""
    settings = Settings(
        home=tmp_path,
        redis_url=SecretStr(redis_url),
        batch=BatchSettings(max_running_jobs=2, max_runs=3, standby_runners=0),
    )
    store = Store(redis_url)
    jobs = JobStore(store, 60)
    yield Desk(settings, store, jobs, JobReconciler(settings, store, jobs))
    await store.close()


async def test_nothing_open_is_nothing_to_do(desk: Desk, cluster: Cluster):
    """The next look can wait."""
    assert await desk.reconciler.tick() is False
    assert cluster.calls == []


async def test_queued_jobs_start_up_to_the_cap(desk: Desk, cluster: Cluster):
    """The oldest two of three, once each."""
    first, second, third = [await desk.create() for _ in range(3)]
    for _ in range(2):
        assert await desk.reconciler.tick() is True
    assert cluster.calls == [("create", first.id, 1), ("create", second.id, 1)]
    assert (await desk.read(third)).status is JobStatus.QUEUED
    await desk.jobs.finish(first, JobStatus.COMPLETED, epoch=1)
    await desk.reconciler.tick()
    assert cluster.calls[2:] == [("create", third.id, 1)]


async def test_workers_are_told_what_real_time_leaves(
    desk: Desk, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    """Two CPUs are four workers' room, of which a job has two; with one and a half reserved there is room for one."""
    monkeypatch.setattr("fyretoolkit.control.batch_share._EVERY_S", 0)
    job = await desk.create()
    for free, expected in ([2.0], 2), ([0.5], 1), ([0.0], 1), ([1.0], 2):
        cluster.free_cpus = free
        for _ in range(2):  # the first look claims the run
            await desk.reconciler.tick()
        assert await read_share(desk.store) == expected
    await desk.create()
    for _ in range(3):
        await desk.reconciler.tick()
    assert await read_share(desk.store) == 1
    assert await desk.store.redis.ttl(keys.BATCH_SHARE) > 0
    assert (await desk.read(job)).status is JobStatus.PROCESSING


async def test_a_dead_run_is_ended_before_the_next_is_claimed(
    desk: Desk, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    """A controller that dies between the two leaves no hanging runner that nobody looks for."""
    job = await desk.create()
    await desk.reconciler.tick()
    await desk.commit(job, 1)
    cluster.living.clear()
    claim = desk.jobs.claim_run

    async def watched_claim(*args: Any, **more: Any) -> int | None:
        cluster.calls.append(("claim", job.id, more["dead_epoch"]))
        return await claim(*args, **more)

    monkeypatch.setattr(desk.jobs, "claim_run", watched_claim)
    await desk.reconciler.tick()
    assert cluster.calls[1:] == [("end", job.id, 1), ("claim", job.id, 1), ("create", job.id, 2)]


async def test_a_controller_killed_while_a_runner_starts_loses_no_minute(desk: Desk, cluster: Cluster):
    """The claim is there and no actor: the next controller starts a run after the short pause, lease or not."""
    job = await desk.create()
    assert await desk.jobs.claim_run(job.org, job.id, lease_s=60) == 1
    await desk.reconciler.tick()
    assert cluster.calls == []
    await desk.rest(job, 1)
    await desk.reconciler.tick()
    assert cluster.calls == [("end", job.id, 1), ("create", job.id, 2)]


async def test_fruitless_runs_are_spread_and_end_the_job(desk: Desk, cluster: Cluster):
    """Each waits twice as long as the one before; after the last the job fails, fenced by its epoch."""
    job = await desk.create()
    await desk.reconciler.tick()
    for runs, pause_s in ((1, 1), (2, 2)):
        cluster.living.clear()
        await desk.rest(job, pause_s - 1)
        await desk.reconciler.tick()
        assert (await desk.read(job)).epoch == runs
        await desk.rest(job, pause_s)
        await desk.reconciler.tick()
        assert (await desk.read(job)).epoch == runs + 1
    cluster.living.clear()
    await desk.reconciler.tick()
    ended = await desk.read(job)
    assert (ended.status, ended.error and ended.error["code"]) == (JobStatus.FAILED, "run_failed")
    assert await desk.reconciler.tick() is False


async def test_a_job_that_gets_on_is_killed_more_often_than_runs_are_allowed(desk: Desk, cluster: Cluster):
    """Each run commits a shard before it dies: the next one starts at once, and the job is not given up."""
    job = await desk.create()
    for epoch in range(1, 8):
        await desk.reconciler.tick()
        counts = ShardCounts(1, 0, {})
        outcome = await desk.jobs.commit_shard(job.org, job.id, epoch, epoch, counts)
        assert outcome is CommitOutcome.COMMITTED
        cluster.living.clear()
    assert [call for call in cluster.calls if call[0] == "create"][-1] == ("create", job.id, 7)


async def assembled(desk: Desk) -> None:
    """Wait for the reconciler's task beside the loop."""
    assert desk.reconciler._tidying is not None
    await desk.reconciler._tidying


async def test_what_a_dead_runner_left_is_assembled_beside_the_loop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    """The tick that starts it does not wait, and a second one starts no second task."""
    job = await desk.create()
    await desk.jobs.claim_run(job.org, job.id, lease_s=60)
    await desk.commit(job, 1)
    await desk.jobs.finish(job, JobStatus.CANCELED)
    may_go, begun = asyncio.Event(), []

    async def slow(jobs: JobStore, job: BatchJob, settings: Settings) -> None:
        begun.append(job.id)
        await may_go.wait()
        await jobs.set_output(job.org, job.id, {"partial": True})
        await jobs.set_assembled(job.org, job.id)

    monkeypatch.setattr("batch.leftovers.assemble_partial", slow)
    for _ in range(3):
        await asyncio.wait_for(desk.reconciler.tick(), 30)
    may_go.set()
    await assembled(desk)
    assert begun == [job.id]
    assert (await desk.read(job)).output == {"partial": True}
    assert await desk.jobs.unassembled() == []


async def test_a_living_runner_is_given_time_for_its_output(desk: Desk, cluster: Cluster):
    """A minute behind the end; a runner that hangs does not keep the output for ever."""
    job = await desk.create()
    await desk.reconciler.tick()
    await desk.commit(job, 1)
    await desk.jobs.finish(job, JobStatus.CANCELED)
    ended = await desk.read(job)
    assert await control._is_with_its_runner(ended)
    cluster.living.clear()
    assert not await control._is_with_its_runner(ended)
    cluster.living[job.id] = 1
    await desk.store.redis.hset(keys.job(job.org, job.id), "finished", str(int(time.time()) - 61))
    assert not await control._is_with_its_runner(await desk.read(job))


async def test_a_driver_is_given_the_same_time(desk: Desk, cluster: Cluster):
    """It is no actor that could be found; once the platform has gone on with its job, it counts no more."""
    driven = await desk.create(driver="raysubmit_1")
    assert await desk.jobs.claim_run(driven.org, driven.id, lease_s=60) == 1
    await desk.jobs.finish(driven, JobStatus.CANCELED)
    ended = await desk.read(driven)
    assert await control._is_with_its_runner(ended)
    assert not await control._is_with_its_runner(replace(ended, epoch=2))
    assert not await control._is_with_its_runner(replace(ended, finished=int(time.time()) - 61))


async def test_folders_without_a_record_are_removed_once_an_hour(desk: Desk):
    """At the first look, and not again with every one."""

    def old_folder() -> Path:
        folder = desk.settings.jobs_dir / new_id("job")
        folder.mkdir(parents=True)
        os.utime(folder, (1, 1))
        return folder

    first = old_folder()
    await desk.reconciler.tick()
    await assembled(desk)
    assert not first.exists()
    second = old_folder()
    await desk.reconciler.tick()
    await assembled(desk)
    assert second.exists()
    desk.reconciler._remove_at = 0.0
    await desk.reconciler.tick()
    await assembled(desk)
    assert not second.exists()


async def test_tidying_that_fails_stops_no_job(desk: Desk, cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """It is logged; runs start all the same."""

    async def away(*_: object) -> None:
        raise PlatformError("unavailable")

    monkeypatch.setattr(desk.reconciler._leftovers, "look", away)
    job = await desk.create()
    await desk.reconciler.tick()
    await assembled(desk)
    assert cluster.calls == [("create", job.id, 1)]
