"""Runners that stand by, as the controller keeps them, over a real store; Ray's actors are a set of names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from fyretoolkit.control import jobs as control_jobs
from fyretoolkit.control import runners as control
from fyretoolkit.control.jobs import JobReconciler
from fyretoolkit.control.runners import StandbyRunners
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.runners import StandbyRunner
from fyretoolkit.settings import BatchSettings, Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.runners import RunnerStore

ORG = "org_a"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@dataclass
class Actors:
    """Who lives; what was started, in order."""

    living: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def create_standby(self, name: str) -> None:
        """As `batch.actor.create_standby`."""
        self.started.append(name)
        self.living.add(name)

    def create_runner(self, org: str, job_id: str, epoch: int) -> None:
        """As `batch.actor.create_runner`."""
        self.create_standby(f"batch-{job_id}-{epoch}")

    def find_actor(self, name: str) -> object | None:
        """As `control.runners.find_actor`."""
        return name if name in self.living else None


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    """The controller finds these instead of Ray's."""
    actors = Actors()
    monkeypatch.setattr(control, "create_standby", actors.create_standby)
    monkeypatch.setattr(control, "find_actor", actors.find_actor)
    monkeypatch.setattr(control_jobs, "create_runner", actors.create_runner)
    monkeypatch.setattr(control_jobs, "find_actor", actors.find_actor)
    monkeypatch.setattr(control_jobs, "free_cpus", lambda: [2.0])
    monkeypatch.setattr(control_jobs.ray, "kill", actors.ended.append)
    return actors


@dataclass
class Desk:
    """A store, and what a controller is made of."""

    settings: Settings
    store: Store
    jobs: JobStore
    runners: RunnerStore

    def standby(self) -> StandbyRunners:
        """A new controller's."""
        return StandbyRunners(self.settings, self.runners)

    def reconciler(self) -> JobReconciler:
        """A new controller's."""
        return JobReconciler(self.settings, self.store, self.jobs)

    async def create(self) -> BatchJob:
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
        )
        await self.jobs.create(job)
        return job

    async def with_runner_up(self) -> JobReconciler:
        """A new controller's, beside which a runner stands by."""
        reconciler = self.reconciler()
        await reconciler.tick()
        await self.come_up()
        return reconciler

    async def come_up(self) -> None:
        """Those that start are up."""
        for runner in await self.runners.standing():
            await self.runners.come_up(runner)

    async def read(self, job: BatchJob) -> BatchJob:
        """The job as it is now."""
        current = await self.jobs.get(job.org, job.id)
        assert current is not None
        return current


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str) -> AsyncIterator[Desk]:
    """One runner stands by."""
    settings = Settings(
        home=tmp_path,
        redis_url=SecretStr(redis_url),
        batch=BatchSettings(standby_runners=1, max_running_jobs=2),
    )
    store = Store(redis_url)
    yield Desk(settings, store, JobStore(store, 60), RunnerStore(store))
    await store.close()


async def test_as_many_stand_by_as_are_wanted(desk: Desk, actors: Actors) -> None:
    """However often it is looked, and whichever controller looks."""
    for standby in (desk.standby(), desk.standby()):
        for _ in range(2):
            await standby.look()
            await standby.refill()
    assert len(actors.started) == 1
    assert [each.name for each in await desk.runners.standing()] == actors.started


async def test_one_that_died_is_replaced_after_a_pause(
    desk: Desk, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What killed it may kill the next one too."""
    standby = desk.standby()
    await standby.look()
    await standby.refill()
    actors.living.clear()
    await standby.look()
    await standby.refill()
    assert len(actors.started) == 1
    assert await desk.runners.standing() == []
    standby._start_at = 0.0
    await standby.look()
    await standby.refill()
    assert len(actors.started) == 2


async def test_a_queued_job_goes_to_the_runner_that_stands_by(desk: Desk, actors: Actors) -> None:
    """Another is started behind it in the same look; the job's run is alive as long as that runner is."""
    reconciler = await desk.with_runner_up()
    (first,) = actors.started
    job = await desk.create()
    await reconciler.tick()
    assert (await desk.read(job)).runner == first
    assert len(actors.started) == 2
    given = await desk.runners.given(first, 1)
    assert given is not None
    assert (given.job, given.epoch) == (job.id, 1)
    for look in (reconciler, desk.reconciler()):
        await look.tick()
    assert (await desk.read(job)).epoch == 1
    assert len(actors.started) == 2


async def test_a_run_is_not_lost_with_the_runner_that_it_was_given_to(desk: Desk, actors: Actors) -> None:
    """It died with the run in hand: the next run is due after the short pause, at another runner."""
    reconciler = await desk.with_runner_up()
    job = await desk.create()
    await reconciler.tick()
    first, second = actors.started
    actors.living.discard(first)
    await desk.store.redis.hset(f"fyre:org:{ORG}:job:{job.id}", "seen_ms", "0")
    await reconciler.tick()
    current = await desk.read(job)
    assert (current.epoch, current.runner) == (2, second)


async def test_a_runner_that_hangs_is_ended_by_its_own_name(desk: Desk, actors: Actors) -> None:
    """It is not named after the job."""
    reconciler = await desk.with_runner_up()
    job = await desk.create()
    await reconciler.tick()
    for name in ("lease_until", "seen_ms"):
        await desk.store.redis.hset(f"fyre:org:{ORG}:job:{job.id}", name, "0")
    await reconciler.tick()
    assert actors.ended == [actors.started[0]]
    assert (await desk.read(job)).epoch == 2


async def test_more_jobs_than_stand_by_start_runners_of_their_own(desk: Desk, actors: Actors) -> None:
    """And one whose runner left the list meanwhile is not claimed until the next look."""
    reconciler = await desk.with_runner_up()
    jobs = [await desk.create() for _ in range(2)]
    await reconciler.tick()
    assert [(await desk.read(job)).runner for job in jobs] == [actors.started[0], None]
    assert f"batch-{jobs[1].id}-1" in actors.started


async def test_a_job_waits_a_moment_for_whoever_is_there_first(desk: Desk, actors: Actors) -> None:
    """The one that starts is kept for it, and no other is started; its organization's last runner is free before."""
    reconciler = desk.reconciler()
    await reconciler.tick()
    (starting,) = actors.started
    job = await desk.create()
    await reconciler.tick()
    assert (await desk.read(job)).status is JobStatus.QUEUED
    await desk.runners.enter(StandbyRunner("free", ORG))
    actors.living.add("free")
    await reconciler.tick()
    assert (await desk.read(job)).runner == "free"
    other = await desk.create()
    await reconciler.tick()
    await desk.runners.come_up(StandbyRunner(starting))
    await reconciler.tick()
    assert (await desk.read(other)).runner == starting
    assert len(actors.started) == 2


async def test_a_job_does_not_wait_for_long(
    desk: Desk, actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given to the runner that starts; who waits beside it has had a runner of its own at once."""
    reconciler = desk.reconciler()
    await reconciler.tick()
    (starting,) = actors.started
    first, second = [await desk.create() for _ in range(2)]
    await reconciler.tick()
    assert [(await desk.read(job)).status for job in (first, second)] == [
        JobStatus.QUEUED, JobStatus.PROCESSING,
    ]  # fmt: skip
    assert actors.started == [starting, f"batch-{second.id}-1"]
    monkeypatch.setattr(control_jobs, "_WORTH_A_WAIT_S", -1.0)
    await reconciler.tick()
    assert (await desk.read(first)).runner == starting


async def test_a_runner_that_comes_up_or_is_free_says_so(desk: Desk, actors: Actors) -> None:
    """A job that waits for it begins at once, and not with the next look by the clock."""
    async with desk.store.subscribe() as changes:
        await desk.runners.enter(StandbyRunner("starting", is_up=False))
        await desk.runners.come_up(StandbyRunner("starting"))
        await desk.runners.enter(StandbyRunner("free", ORG))
        said = []
        async with asyncio.timeout(30):
            async for message in changes.listen():
                said.append(json.loads(message["data"]))
                if len(said) == 2:
                    break
    assert [(each["kind"], each["id"]) for each in said] == [("runner", "starting"), ("runner", "free")]


async def test_a_runner_that_left_meanwhile_gets_no_run(desk: Desk, actors: Actors) -> None:
    """The claim is refused and the job stays queued, for the next look."""
    await desk.runners.enter(StandbyRunner("gone", ORG))
    actors.living.add("gone")
    reconciler = desk.reconciler()
    job = await desk.create()
    look = reconciler._standby.look

    async def look_and_leave() -> None:
        await look()
        await desk.runners.withdraw([StandbyRunner("gone", ORG)])

    reconciler._standby.look = look_and_leave  # type: ignore[method-assign]
    await reconciler.tick()
    assert (await desk.read(job)).status is JobStatus.QUEUED
    reconciler._standby.look = look  # type: ignore[method-assign]
    await desk.come_up()
    await reconciler.tick()
    assert (await desk.read(job)).status is JobStatus.PROCESSING


async def test_another_organizations_first_job_goes_before_the_others_queue(
    desk: Desk, actors: Actors
) -> None:
    """Two run; of five hundred and one that wait, the one is next."""
    reconciler = desk.reconciler()
    many = [await desk.create() for _ in range(6)]
    await reconciler.tick()
    late = BatchJob(**{**_fields(many[0]), "id": new_id("job"), "org": "org_b"})
    await desk.jobs.create(late)
    await desk.jobs.finish(many[0], JobStatus.CANCELED)
    await desk.come_up()
    await reconciler.tick()
    assert (await desk.read(late)).status is JobStatus.PROCESSING
    assert (await desk.read(many[2])).status is JobStatus.QUEUED


def _fields(job: BatchJob) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}
