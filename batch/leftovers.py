"""What runs left undone: output that nobody assembled, and files that nobody owns any more.

The controller calls this beside its loop. A runner does its own share; here is what its death, or an end that came from
elsewhere (a cancel, the controller's own verdict), left over.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from anyio import to_thread

from batch.runner import assemble_partial
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.jobs import PREFIX, BatchJob
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore

logger = logging.getLogger(__name__)


async def assemble_left(
    jobs: JobStore, settings: Settings, is_taken_care_of: Callable[[BatchJob], Awaitable[bool]]
) -> None:
    """Give each ended job without its output what was committed, and free what nobody reads, unless its own runner
    still sees to that.
    """
    for org, job_id in await jobs.unassembled():
        try:
            job = await jobs.get(org, job_id)
            if job is None:
                await jobs.set_assembled(org, job_id)
            elif not await is_taken_care_of(job):
                await assemble_partial(jobs, job, settings)
        except (OSError, PlatformError, ValueError):  # ValueError: a record that cannot be read
            logger.exception("the output of job %s cannot be assembled now", job_id)


async def remove_unowned(jobs: JobStore, settings: Settings) -> None:
    """Remove the folders and the outbox entries of jobs whose records expired.

    A folder goes only when it is also as old as records live: results must outlast a platform that was started on the
    wrong Redis, or on an empty one.
    """
    old = await to_thread.run_sync(_folders_before, settings.jobs_dir, time.time() - settings.batch.job_ttl_s)
    if old:
        recorded = await jobs.recorded_ids()
        for folder in old:
            if folder.name not in recorded:
                logger.info("the record of %s is gone; its folder goes too", folder.name)
                await to_thread.run_sync(shutil.rmtree, folder)
    if count := await jobs.forget_expired_deliveries():
        logger.info("%d expired deliveries left the outbox", count)


def _folders_before(jobs_dir: Path, before: float) -> list[Path]:
    if not jobs_dir.is_dir():
        return []
    folders = [path for path in jobs_dir.iterdir() if is_id(path.name, PREFIX)]
    return [folder for folder in folders if folder.stat().st_mtime < before]
