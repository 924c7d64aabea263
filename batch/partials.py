"""The output of a job that ended without all of it: the committed rows, attached to its record; then what nobody reads
any more is freed.

A job's runner calls this when it ended the job, and the controller for jobs that ended otherwise (`batch.leftovers`).
"""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread

from batch.background import in_thread_of_its_own
from batch.destinations import deliver
from batch.endings import (
    assemble_committed,
    free_damaged,
    free_parts,
    free_spooled,
    free_superseded,
    stored_output,
)
from batch.joblog import JobLog
from batch.retries import keep_what_fits
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore


async def assemble_partial(jobs: JobStore, job: BatchJob, settings: Settings) -> None:
    """Attach what was committed to a job that ended without all of it, and free what nobody reads any more.

    The failed rows are kept first, or given up, and the spooled input goes before the output is written: a job that
    filled the disk must not keep it full until somebody else makes room.

    Its runner does, or else the controller. Both may at once: they write the same bytes, the first output stays, and
    who is late finds the parts gone. Parts go when the output is in the record; those that are damaged stay, for the
    API shows what it can of them.

    Raises:
        PlatformError: `storage_full`: the committed parts are all there is for now.
    """
    job = await jobs.get(job.org, job.id) or job
    folder = settings.jobs_dir / job.id
    is_damaged = job.output is None and not await _attach_committed(jobs, job, folder, settings)
    await to_thread.run_sync(free_damaged if is_damaged else free_parts, folder)
    if (ended := await jobs.get(job.org, job.id)) is not None and not is_damaged:
        await to_thread.run_sync(free_superseded, folder, ended.output)
    await jobs.set_assembled(job.org, job.id)


async def _attach_committed(jobs: JobStore, job: BatchJob, folder: Path, settings: Settings) -> bool:
    """Whether the output is attached, or there is none to attach; if not, the job's log says what is damaged.

    The output is the whole shards before the first gap, which progress counts: who read them while the job was running
    has read the beginning of it.
    """
    committed = dict(enumerate(await jobs.committed_prefix(job.org, job.id)))
    if not committed or not await to_thread.run_sync(folder.is_dir):
        return True
    assembled, is_delivered, damage = None, False, None
    reserve_bytes = settings.files.min_free_bytes
    kept = await to_thread.run_sync(keep_what_fits, folder, job, committed, reserve_bytes)
    await to_thread.run_sync(free_spooled, folder)
    try:
        assembled = await to_thread.run_sync(
            assemble_committed, folder, job, committed, JobStatus.FAILED, reserve_bytes
        )
        if assembled and job.destination:  # last: a storage that fails must not cost the job its own copy
            # Not in a shared thread: storages that hang would have all of them.
            await in_thread_of_its_own(deliver, job.destination, folder, assembled, settings)
            is_delivered = True
    except PlatformError as error:
        if error.code == "storage_full":
            raise
        damage = error
    if stored := stored_output(assembled, kept, is_delivered=is_delivered):
        await jobs.set_output(job.org, job.id, stored)
    current = await jobs.get(job.org, job.id)
    is_attached = current is None or current.output is not None
    if damage is not None and not (is_attached and assembled is None):
        JobLog(folder, job.epoch).append("output_damaged", error=damage.message)
    return is_attached
