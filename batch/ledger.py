"""What is committed of a job that has no platform: a line for each shard, in one file of the job's folder.

It answers the three questions that a `ShardWorker` asks of `JobStore`. A line is one `write` to a file opened for
appending, synced before the call returns: several processes share it, and a crash leaves half a line at worst, which
counts for nothing.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import orjson

from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts


class Ledger:
    """The commits of one job. Picklable."""

    def __init__(self, path: Path, job: BatchJob) -> None:
        self._path = path
        self._job = job
        self.own: dict[int, ShardCounts] = {}
        """What was committed through this very object."""

    def committed(self) -> dict[int, ShardCounts]:
        """Every committed shard; of two commits of one, which hold the same rows, the first."""
        found: dict[int, ShardCounts] = {}
        content = self._path.read_bytes() if self._path.exists() else b""
        for line in content.split(b"\n")[:-1]:
            try:
                shard, counts = orjson.loads(line)
            except orjson.JSONDecodeError:  # a crash cut it off, and the next line was appended to it
                continue
            found.setdefault(shard, ShardCounts(**counts))
        return found

    async def get(self, _org: str, _job_id: str) -> BatchJob | None:
        """The job, which nobody else can change."""
        return self._job

    async def is_committed(self, _org: str, _job_id: str, shard: int) -> bool:
        """Whether this process committed it: what others did is not asked for again."""
        return shard in self.own

    async def commit_shard(
        self, _org: str, _job_id: str, _epoch: int, shard: int, counts: ShardCounts
    ) -> CommitOutcome:
        """Make the shard's part output, durably."""
        with self._path.open("ab", buffering=0) as file:
            # The first newline ends what a crash may have left.
            file.write(b"\n" + orjson.dumps([shard, asdict(counts)]) + b"\n")
            os.fsync(file.fileno())
        self.own[shard] = counts
        return CommitOutcome.COMMITTED
