"""Starting the runs of batch jobs: each in a detached actor, replaced when that dies or hangs.

The controller only starts runs. What a run does, and how it ends the job, is the runner's own business, fenced by its
epoch; so a controller that dies changes nothing for the jobs that are running. Beside its look it does what
runs left undone (`batch.leftovers`), in one task, so that copying a large output delays no other job.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import ray

from batch.actor import create_runner, runner_name
from batch.failpoints import reach_async
from batch.leftovers import Leftovers, remove_unowned
from fyretoolkit.control.batch_share import BatchShare, free_cpus
from fyretoolkit.control.runners import StandbyRunners, find_actor
from fyretoolkit.control.threads import SERVE, run_in
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.job_queue import Line, plan_starts
from fyretoolkit.core.jobs import BatchJob, FailJob, JobCommand, StartRun, plan_runs
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.runners import StandbyRunner
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.job_queue import JobQueue
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.runners import RunnerStore

logger = logging.getLogger(__name__)

_STARTING_LEASE_S = 60.0
"""The first lease of a run covers the start of its process; the runner renews it with its own, shorter one."""
_GIVEN_LEASE_S = 15.0
"""The same where the process is there already."""
_WORTH_A_WAIT_S = 5.0
"""For a runner that is starting: the one that had the organization's last job may be free before that one is up."""
_OWN_END_S = 60.0
"""So long a living runner may take to assemble the output of its job before the controller does."""
_LOOK_AGAIN_S = 10.0
_REMOVE_EVERY_S = 3600.0


class JobReconciler:
    """Sees to it that every open job has a living run, up to the configured numbers of jobs at once."""

    def __init__(self, settings: Settings, store: Store, jobs: JobStore) -> None:
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._queue = JobQueue(store)
        self._standby = StandbyRunners(settings, RunnerStore(store))
        self._share = BatchShare(settings.batch, store, free_cpus)
        self._leftovers = Leftovers(jobs, settings, _is_with_its_runner)
        self._waiting: dict[str, float] = {}
        """Since when a job waits for a runner."""
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_at = 0.0
        self._remove_at = 0.0

    async def tick(self) -> bool:
        """Plan once and start what is due. True while a job is open, so the next look is soon."""
        await self._tidy_beside()
        await self._standby.look()
        lines = await self._queue.lines()
        if lines:
            await self._replace_runs()
            await self._start_queued(lines)
        await self._standby.refill()
        return bool(lines)

    async def _replace_runs(self) -> None:
        running = await self._queue.running()
        commands = plan_runs(
            running,
            await run_in(SERVE, _live_runs, running),
            await self._store.now_ms(),
            max_runs=self._settings.batch.max_runs,
        )
        for command in commands:
            await self._carry_out(command)
        await self._share.tick(len(running))

    async def _start_queued(self, lines: Sequence[Line]) -> None:
        """Whoever's turn it is: their oldest jobs, in turn.

        Jobs that ended since the lines were read have said so, and the next look, which that brings about, knows. One
        whose runner is starting waits a little: what it would begin in is not there yet anyhow, and a runner that is
        up, or free again, says so.
        """
        batch = self._settings.batch
        turns = plan_starts(
            lines,
            max_running=batch.max_running_jobs,
            max_per_organization=batch.max_running_jobs_per_organization,
        )
        first = {org: await self._queue.first(org, count) for org, count in Counter(turns).items()}
        waiting, kept = self._waiting, list[StandbyRunner]()
        self._waiting = {}
        for org in turns:
            if not first[org]:
                continue
            job, now = first[org].pop(0), time.monotonic()
            runner = self._standby.take(org)
            since = waiting.get(job.id, now)
            if runner is None or runner.is_up or now - since > _WORTH_A_WAIT_S:
                await self._start_run(job, None, runner)
            else:
                self._waiting[job.id] = since
                kept.append(runner)
        for runner in kept:  # not before: it is to have one job
            self._standby.give_back(runner)

    async def _tidy_beside(self) -> None:
        """Start the task that tidies up, if there is something to do and none is running."""
        if self._tidying is not None and not self._tidying.done():
            return
        now = time.monotonic()
        if now >= self._remove_at or (now >= self._tidy_at and await self._jobs.unassembled()):
            self._tidy_at = now + _LOOK_AGAIN_S
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        try:
            await self._leftovers.look()
            if time.monotonic() >= self._remove_at:
                self._remove_at = time.monotonic() + min(_REMOVE_EVERY_S, self._settings.batch.job_ttl_s)
                await self._queue.enlist()
                await remove_unowned(self._jobs, self._settings)
        except Exception:
            logger.exception("tidying up failed; it is tried again")

    async def _carry_out(self, command: JobCommand) -> None:
        match command:
            case StartRun(job, dead_epoch):
                await self._start_run(job, dead_epoch, self._standby.take(job.org))
            case FailJob(job, code, message):
                error = {"code": code, "message": PlatformError(code, message).message}
                await self._jobs.finish(job, JobStatus.FAILED, epoch=job.epoch, error=error)

    async def _start_run(self, job: BatchJob, dead_epoch: int | None, runner: StandbyRunner | None) -> None:
        if dead_epoch is not None:
            # Before the claim: a controller that dies between the two leaves no hanging runner behind.
            await run_in(SERVE, _end_runner, job)
        await reach_async("claim.before", job.id)
        epoch = await self._jobs.claim_run(
            job.org,
            job.id,
            lease_s=_GIVEN_LEASE_S if runner and runner.is_up else _STARTING_LEASE_S,
            dead_epoch=dead_epoch,
            runner=runner,
        )
        if epoch is None:
            if runner is not None:
                self._standby.give_back(runner)
            return
        await reach_async("claim.after", job.id)
        logger.info("job %s: run %d starts", job.id, epoch)
        if runner is None:
            await run_in(SERVE, create_runner, job.org, job.id, epoch)
        await reach_async("create.after", job.id)


async def _is_with_its_runner(job: BatchJob) -> bool:
    """Whether the runner of a job that ended is alive and has had little time yet.

    Nobody here can tell whether a driver lives; it is given the time. Two that deliver to one name end each other's
    uploads (`batch.destinations`).
    """
    if time.time() > (job.finished or 0) + _OWN_END_S:
        return False
    return job.is_with_driver or await run_in(SERVE, _runner, job) is not None


def _live_runs(jobs: Iterable[BatchJob]) -> dict[str, int]:
    return {job.id: job.epoch for job in jobs if _runner(job) is not None}


def _runner(job: BatchJob) -> ray.actor.ActorHandle | None:
    """The living actor that has the job's newest run."""
    return find_actor(job.runner or runner_name(job.id, job.epoch))


def _end_runner(job: BatchJob) -> None:
    """End a runner that hangs; one that is dead already is not there to be found."""
    runner = _runner(job)
    if runner is not None:
        ray.kill(runner)
