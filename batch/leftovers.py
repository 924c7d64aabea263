"""What runs left undone: output that nobody assembled, and files that nobody owns any more.

The controller calls this beside its loop. A runner does its own share; here is what its death, or an end that came from
elsewhere (a cancel, the controller's own verdict), left over.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from anyio import to_thread

from batch.partials import assemble_partial
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.jobs import PREFIX, BatchJob
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore

logger = logging.getLogger(__name__)

_DELIVERIES_OF_ORGANIZATION = 2


class Leftovers:
    """Gives each ended job without its output what was committed, and frees what nobody reads.

    One job after another, but for those whose output goes to a storage as well: these are seen to beside, two of an
    organization at once, each in a thread of its own, so that a storage that hangs delays other deliveries of its
    organization alone. Rejected: a bound for all, which four organizations with storages that hang would use up; a
    thread that waits costs little, and the timeouts of `egress` end it. Belongs to one event loop.
    """

    def __init__(
        self, jobs: JobStore, settings: Settings, is_taken_care_of: Callable[[BatchJob], Awaitable[bool]]
    ) -> None:
        """`is_taken_care_of`: whether the job's own runner still sees to that."""
        self._jobs = jobs
        self._settings = settings
        self._is_taken_care_of = is_taken_care_of
        self._delivering: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._without_room: set[str] = set()

    async def look(self) -> None:
        """Do what is left to do; deliveries may be under way still when it returns."""
        for org, job_id in await self._jobs.unassembled():
            if job_id not in self._delivering:
                await self._logged(job_id, self._see_to(org, job_id))

    async def _see_to(self, org: str, job_id: str) -> None:
        job = await self._jobs.get(org, job_id)
        if job is None:
            await self._jobs.set_assembled(org, job_id)
        elif await self._is_taken_care_of(job):
            return
        elif job.destination is None or job.output is not None:
            await assemble_partial(self._jobs, job, self._settings)
        elif self._may_deliver(org):
            work = self._logged(job_id, assemble_partial(self._jobs, job, self._settings))
            task = asyncio.create_task(work)
            self._delivering[job_id] = org, task
            task.add_done_callback(lambda _: self._delivering.pop(job_id))

    def _may_deliver(self, org: str) -> bool:
        orgs = [each for each, _ in self._delivering.values()]
        return orgs.count(org) < _DELIVERIES_OF_ORGANIZATION

    async def _logged(self, job_id: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (OSError, PlatformError, ValueError) as error:  # ValueError: a record that cannot be read
            if not (isinstance(error, PlatformError) and error.code == "storage_full"):
                logger.exception("the output of job %s cannot be assembled now", job_id)
            elif job_id not in self._without_room:  # once: it may be looked at every few seconds for days
                self._without_room.add(job_id)
                logger.warning("the output of job %s waits for room on the disk", job_id)
        else:
            self._without_room.discard(job_id)


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
