"""The queue of jobs in Redis: whose jobs wait and run, where a job stands, who is first in line.

The sets are kept by the scripts that create, claim and finish a job. They are an index of the records: what is in them
and should not be leaves them when it is met, what is missing is put back by `enlist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fyretoolkit.core.job_queue import Line, position
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated
from fyretoolkit.store.records import from_hash


class JobQueue:
    """Reads the queue. Only the scripts of `JobStore` move a job within it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def lines(self, *orgs: str) -> list[Line]:
        """Of every organization with a job that waits or runs, and of those named."""
        told = await self._store.run(
            "read_queue", [keys.QUEUED_JOBS, keys.RUNNING_JOBS, keys.LAST_STARTS], orgs
        )
        return [
            Line(org, int(waiting), int(running), int(started_ms))
            for org, waiting, running, started_ms in zip(
                told[::4], told[1::4], told[2::4], told[3::4], strict=True
            )
        ]

    async def positions(self, org: str, job_ids: Sequence[str]) -> list[int]:
        """Where each of these queued jobs of an organization stands; 1 is the next to begin.

        A job that is not created yet has the position that it is about to get.
        """
        if not job_ids:
            return []
        lines = await self.lines(org)
        own = next(line for line in lines if line.org == org)
        async with translated():
            pipeline = self._store.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.zlexcount(keys.QUEUED_JOBS, f"[{org} ", f"({org} {job_id}")
            return [position(lines, own, before) for before in await pipeline.execute()]

    async def first(self, org: str, count: int) -> list[BatchJob]:
        """The organization's oldest queued jobs."""
        async with translated():
            members = await self._store.redis.zrangebylex(
                keys.QUEUED_JOBS, f"[{org} ", f"({org}!", start=0, num=count
            )
        return await self._records(keys.QUEUED_JOBS, cast(list[str], members), JobStatus.QUEUED)

    async def running(self) -> list[BatchJob]:
        """Every job that a run has claimed and that has not ended."""
        async with translated():
            members = await self._store.redis.zrange(keys.RUNNING_JOBS, 0, -1)
        return await self._records(keys.RUNNING_JOBS, cast(list[str], members), JobStatus.PROCESSING)

    async def _records(self, index: str, members: Sequence[str], status: JobStatus) -> list[BatchJob]:
        """The jobs behind the members of a set; a member whose job is not as it says leaves it."""
        stored = await self._store.read_hashes([keys.job(*member.split(" ")) for member in members])
        is_right = [fields.get("status") == status for fields in stored]
        wrong = [member for member, is_so in zip(members, is_right, strict=True) if not is_so]
        await self._store.remove_members(index, wrong)
        return [from_hash(BatchJob, fields) for fields, is_so in zip(stored, is_right, strict=True) if is_so]

    async def enlist(self) -> None:
        """Put jobs where they belong that are in no set: those of a platform from before there was this queue."""
        await self._store.run(
            "enlist_jobs", [keys.OPEN_JOBS, keys.QUEUED_JOBS, keys.RUNNING_JOBS], [keys.job("%s", "%s")]
        )
