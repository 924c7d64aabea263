"""The committed parts of jobs whose results are read before they are assembled.

A job may have thousands of them, and every request for a range of its results needs all. So those of the last few jobs
are remembered: a commit is never taken back, and only what was committed since is read. What is read is taken apart in
a thread, and once for all who ask at the same moment.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, cast

from batch.parts import Part
from fyretoolkit.core.jobs import BatchJob, ShardCounts
from fyretoolkit.core.lifecycles import JOB, is_terminal
from fyretoolkit.store.jobs import JobStore

_JOBS_KEPT = 8


class CommittedParts:
    """Belongs to one event loop."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def __len__(self) -> int:
        """Jobs that are remembered."""
        return len(self._known)

    async def of(self, job: BatchJob) -> list[Part]:
        """In the order in which they will be assembled. Do not change the list.

        They are those before the first gap: what comes later must only add to them.
        """
        known = self._known.setdefault((job.org, job.id), _Known())
        self._known.move_to_end((job.org, job.id))
        if len(self._known) > _JOBS_KEPT:
            self._known.popitem(last=False)
        async with known.lock:
            if not known.is_whole:
                found_next = await self._jobs.committed_prefix(job.org, job.id, len(known.parts))
                known.parts = known.parts + await asyncio.to_thread(_parts, found_next)
                known.is_whole = is_terminal(JOB, job.status)
            return known.parts


class _Known:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.parts: list[Part] = []
        self.is_whole = False


def _parts(shards: Iterable[ShardCounts]) -> list[Part]:
    return [Part.from_json(cast(Any, counts.part)) for counts in shards]
