"""`BatchRunner`: one run of a job, from its claim to the job's terminal status.

A run may die at any instant: everything it knows is in Redis (status, epoch, committed shards) and in the job's folder
(input, plan, parts). The next run reads them and goes on behind the last commit. A run ends the job only with a typed
error; whatever else happens, it lets its lease expire and the controller starts another.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from anyio import to_thread

from batch.background import in_background, in_thread_of_its_own
from batch.destinations import StoppedError, deliver
from batch.endings import Ending, assemble_committed, decide_ending, free_staged_before, stored_output
from batch.failpoints import reach_async
from batch.gpus import require_gpus
from batch.joblog import JobLog
from batch.layouts import read_layout
from batch.partials import assemble_partial
from batch.pipeline import run_shards
from batch.retries import keep_for_retry, take_retried
from batch.runs import Run, RunOverError, is_final
from batch.shards import Layout, Plan, cut
from batch.sizing import measure_speed, shard_bytes
from batch.sources import Source, stage
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.egress.spool import Spool
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.jobs import JobStore

Work = Callable[[Run, Sequence[int], threading.Event], None]

_STOP_GRACE_S = 7.0


class BatchRunner:
    """One run. `run()` returns when the run is over, however it went."""

    def __init__(
        self, settings: Settings, org: str, job_id: str, *, epoch: int | None = None, work: Work = run_shards
    ) -> None:
        """`epoch`: the run was claimed already, under this number."""
        self._settings = settings
        self._org = org
        self._job_id = job_id
        self._epoch = epoch or 0
        self._work = work
        self._stop = threading.Event()
        self._stopped = asyncio.Event()
        self._reason: PlatformError | None = None
        self._is_ending = False
        self._store = Store(settings.redis_url.get_secret_value())
        self._jobs = JobStore(self._store, settings.batch.job_ttl_s)

    @property
    def _folder(self) -> Path:
        return self._settings.jobs_dir / self._job_id

    async def run(self) -> None:
        """Claim the job unless that was done, work on it, end it.

        Raises:
            Exception: a failure that the next run may not meet; the lease is left to expire.
        """
        try:
            self._epoch = self._epoch or await self._claim()
            job = await self._jobs.get(self._org, self._job_id)
            if job is None or job.epoch != self._epoch or job.status is not JobStatus.PROCESSING:
                return
            self._folder.joinpath("parts").mkdir(parents=True, exist_ok=True)
            self._log("run_started")
            await self._execute(job)
        finally:
            await self._store.close()

    async def _claim(self) -> int:
        claimed = await self._jobs.claim_run(self._org, self._job_id, lease_s=self._settings.batch.lease_s)
        return claimed or -1

    async def _execute(self, job: BatchJob) -> None:
        heartbeat = asyncio.create_task(self._keep_lease(job))
        try:
            await self._unless_stopped(self._process(job))
        except Exception as error:
            if isinstance(error, RunOverError) or self._stop.is_set():
                await self._leave(job)
            elif is_final(error):
                await self._end(job, Ending(JobStatus.FAILED, error))
            else:
                self._log("run_failed", error=f"{type(error).__name__}: {error}"[:1000])
                raise
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat

    async def _unless_stopped(self, work: Coroutine[object, object, None]) -> None:
        """Await `work`. When the run must stop it has a few seconds to notice; then it is left behind.

        Raises:
            RunOverError: it was left behind, or noticed.
        """
        working = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=_STOP_GRACE_S)
            if not working.done():
                raise RunOverError
            await working
        finally:
            stopped.cancel()
            working.cancel()

    async def _process(self, job: BatchJob) -> None:
        await to_thread.run_sync(require_gpus, ModelSpec.from_json(job.spec).resources)
        if job.plan:
            source = Source.from_json(cast(Mapping[str, object], job.plan["source"]))
            run = self._run_over(job, source, str(job.plan["shards"]))
        else:
            run = await self._staged(job)
            job = replace(job, plan=_plan_of(run))
        committed = await self._jobs.committed(self._org, self._job_id)
        pending = [shard.index for shard in run.plan.shards if shard.index not in committed]
        self._log("shards_pending", pending=len(pending), committed=len(committed))
        if pending:
            await in_thread_of_its_own(self._work, run, pending, self._stop)
        if self._stop.is_set():
            raise RunOverError
        committed = await self._jobs.committed(self._org, self._job_id)
        succeeded = sum(counts.succeeded for counts in committed.values())
        failed = sum(counts.failed for counts in committed.values())
        if succeeded + failed != run.plan.total:
            raise RuntimeError(f"{succeeded + failed} of {run.plan.total} rows are committed")
        await self._end(job, decide_ending(succeeded, failed, job.max_error_rate))

    def _run_over(self, job: BatchJob, source: Source, plan_file: str) -> Run:
        return Run(
            self._org, self._job_id, self._epoch, job.artifact, job.spec, source, plan_file, self._settings
        )

    async def _staged(self, job: BatchJob) -> Run:
        """Bring the input to disk and cut it; what later runs need to know of that is in the job's record.

        Names carry the epoch: a run that is fenced off while it stages cannot write over what a newer one staged.
        """
        folder = self._folder / f"input-{self._epoch}"
        await to_thread.run_sync(free_staged_before, self._folder, self._epoch)
        folder.mkdir(exist_ok=True)
        await reach_async("stage.before")
        uploads = Uploads(self._org, FileStore(self._store), self._settings.files_dir)
        layout = None
        if job.retry_of is None:
            source = await stage(job.input_url, folder, self._settings, uploads)
        else:
            source, layout = await take_retried(self._jobs, job, folder, self._settings)
        await reach_async("stage.after")
        run = self._run_over(job, source, f"plan-{self._epoch}.json")
        plan = await in_thread_of_its_own(
            in_background, self._settings.batch.worker_niceness, make_plan, run, layout
        )
        await reach_async("plan.before")
        is_written = await self._jobs.set_plan(
            self._org,
            self._job_id,
            self._epoch,
            total=plan.total,
            shard_count=len(plan.shards),
            plan=_plan_of(run),
            lease_s=self._settings.batch.lease_s,
        )
        if not is_written:
            raise RunOverError
        await reach_async("plan.after")
        self._log("planned", total=plan.total, shards=len(plan.shards))
        return run

    async def _end(self, job: BatchJob, ending: Ending) -> None:
        """Publish what was committed and give the job its status; a run that was fenced off changes nothing.

        The output of a completed job is there with its status. Any other status comes first: it stops the commits of
        workers that are still busy, so that the output holds all there are.
        """
        output = None
        await reach_async("assemble.before")
        if ending.status is JobStatus.COMPLETED:
            committed = await self._jobs.committed(self._org, self._job_id)  # Redis being away is no damage
            try:
                output = await self._whole_output(job, committed)
            except StoppedError as stopped:
                raise RunOverError from stopped
            except PlatformError as damage:
                output, ending = None, Ending(JobStatus.FAILED, damage)
        await reach_async("finish.before")
        self._is_ending = True  # from here on a refused lease is no reason to stop
        status = await self._jobs.finish(
            job,
            ending.status,
            epoch=self._epoch,
            error=ending.error_json(),
            output=output,
        )
        await reach_async("finish.after")
        self._log("run_ended", status=status, code=ending.error.code if ending.error else None)
        if status is not None:
            await self._tidy(job)

    async def _whole_output(
        self, job: BatchJob, committed: Mapping[int, ShardCounts]
    ) -> dict[str, object] | None:
        """The output of a job that has every shard, at its destination too: the last thing that can fail."""
        reserve_bytes = self._settings.files.min_free_bytes
        kept = await to_thread.run_sync(keep_for_retry, self._folder, job, committed, reserve_bytes)
        assembled = await to_thread.run_sync(
            assemble_committed, self._folder, job, committed, JobStatus.COMPLETED, reserve_bytes
        )
        if assembled and job.destination:
            await to_thread.run_sync(
                deliver, job.destination, self._folder, assembled, self._settings, self._stop
            )
        return stored_output(assembled, kept, is_delivered=job.destination is not None)

    async def _leave(self, job: BatchJob) -> None:
        """The run was stopped: end the job if its deadline did it, attach what is there if it was canceled."""
        self._log("run_stopped")
        if self._reason is not None:
            await self._end(job, Ending(JobStatus.FAILED, self._reason))
            return
        current = await self._jobs.get(self._org, self._job_id)
        if current is not None and current.status is JobStatus.CANCELED and current.epoch == self._epoch:
            await self._tidy(current)

    async def _tidy(self, job: BatchJob) -> None:
        """What is left to do about the end of the job; the controller does it later where the disk is full."""
        try:
            await assemble_partial(self._jobs, job, self._settings)
        except PlatformError as error:
            if error.code != "storage_full":
                raise
            self._log("output_waits_for_room")

    async def _keep_lease(self, job: BatchJob) -> None:
        """Renew until refused; a store that is away is asked again until the lease must have ended.

        A run that its deadline stopped keeps the lease until it has ended the job, or another would begin.
        """
        lease_s = self._settings.batch.lease_s
        renewed_at = time.monotonic()
        while self._reason is not None or not self._stop.is_set():
            try:
                is_held = await self._jobs.renew(self._org, self._job_id, self._epoch, lease_s)
                renewed_at = time.monotonic()
            except PlatformError:
                is_held = time.monotonic() - renewed_at <= lease_s
            if self._is_ending:
                return
            if not is_held:
                self._halt()
                return
            self._check_deadline(job)
            await asyncio.sleep(lease_s / 4)

    def _check_deadline(self, job: BatchJob) -> None:
        if job.timeout_s is None or job.started is None or time.time() < job.started + job.timeout_s:
            return
        self._reason = PlatformError(
            "deadline_exceeded", f"The job was not done within its timeout_s of {job.timeout_s}."
        )
        self._halt()

    def _halt(self) -> None:
        self._stop.set()
        self._stopped.set()

    def _log(self, event: str, **more: object) -> None:
        JobLog(self._folder, self._epoch).append(event, **more)


def _plan_of(run: Run) -> dict[str, object]:
    """What later runs need to know of a run's input."""
    return {"source": run.source.to_json(), "shards": run.plan_file}


def make_plan(run: Run, layout: Layout | None = None) -> Plan:
    """Cut the staged input of a run and keep the plan in its folder, durably. `layout`: it is known, and not read.

    Raises:
        PlatformError: `invalid_format`, `input_changed`, `input_too_large`, `storage_full`.
    """
    batch, source = run.settings.batch, run.source
    path = Path(source.path)
    layout = layout or read_layout(
        path,
        name=source.name,
        content_type=source.content_type,
        max_header_bytes=batch.max_line_bytes,
        max_columns=batch.max_columns,
    )
    plan = cut(
        path,
        layout,
        target_bytes=shard_bytes(source.size_bytes, measure_speed(run, layout), batch),
        max_record_bytes=batch.max_line_bytes,
        max_records=batch.max_rows,
    )
    source.check(path.stat())
    spool = Spool(run.folder / run.plan_file, reserve_bytes=run.settings.files.min_free_bytes)
    try:
        spool.write(plan.to_json())
        spool.publish()
    finally:
        spool.discard()
    return plan
