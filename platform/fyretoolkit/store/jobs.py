"""Batch jobs in Redis: creation, runs with their epochs and leases, shard commits, the one terminal status."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping, Sequence
from itertools import takewhile
from typing import cast

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts
from fyretoolkit.core.lifecycles import JOB, DeliveryStatus, JobStatus, predecessors
from fyretoolkit.core.quotas import Resource
from fyretoolkit.core.runners import StandbyRunner
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, script_argument, translated
from fyretoolkit.store.creation import Creation, Idempotency, Quota, create
from fyretoolkit.store.records import encode_fields, from_hash, to_hash

_SCAN_COUNT = 1000
_PREFIX_STEP = 250


class JobStore:
    """The repository of batch jobs."""

    def __init__(self, store: Store, job_ttl_s: int) -> None:
        self._store = store
        self._job_ttl_s = job_ttl_s

    async def create(
        self, job: BatchJob, *, idempotency: Idempotency | None = None, max_queued: int | None = None
    ) -> Creation:
        """Write a queued job, its list entries and its idempotency answer in one step.

        One that is processing already, by the driver that makes it, was never in the queue.

        Raises:
            PlatformError: `idempotency_key_reused`; `quota_exceeded`, `max_queued` of the organization wait already.
        """
        line = keys.QUEUED_JOBS if job.status is JobStatus.QUEUED else keys.RUNNING_JOBS
        return await create(
            self._store,
            record_key=keys.job(job.org, job.id),
            fields=to_hash(job),
            open_set=keys.OPEN_JOBS,
            lists={line: f"{job.org} {job.id}", keys.jobs(job.org): job.id},
            change=("job", job.org, job.id),
            idempotency=idempotency,
            quota=Quota(Resource.QUEUED_JOBS, max_queued, beginning=f"{job.org} "),
        )

    async def get(self, org: str, job_id: str) -> BatchJob | None:
        """The job, or None if this organization has none of this id."""
        stored = await self._store.read_hash(keys.job(org, job_id))
        return from_hash(BatchJob, stored) if stored else None

    async def open_jobs(self) -> list[BatchJob]:
        """Every job that has not ended, of all organizations."""
        members = await self._store.read_members(keys.OPEN_JOBS)
        stored = await self._store.read_hashes([keys.job(org, job_id) for org, job_id in members])
        return [from_hash(BatchJob, fields) for fields in stored if fields]

    async def page(self, org: str, limit: int, *, starting_after: str | None = None) -> list[BatchJob]:
        """Newest first, all older than `starting_after`; fewer than `limit` at the end of the list alone.

        Jobs whose records expired leave the list here.
        """
        found: list[BatchJob] = []
        while len(found) < limit:
            ids = await self._store.read_page(keys.jobs(org), limit - len(found), below=starting_after)
            if not ids:
                break
            stored = await self._store.read_hashes([keys.job(org, job_id) for job_id in ids])
            found += [from_hash(BatchJob, fields) for fields in stored if fields]
            expired = [job_id for job_id, fields in zip(ids, stored, strict=True) if not fields]
            await self._store.remove_members(keys.jobs(org), expired)
            starting_after = ids[-1]
        return found

    async def claim_run(
        self,
        org: str,
        job_id: str,
        *,
        lease_s: float,
        dead_epoch: int | None = None,
        runner: StandbyRunner | None = None,
    ) -> int | None:
        """The epoch of a new run, or None while another holds the lease or the job has ended.

        `dead_epoch` is a run known to be dead: its lease need not be waited for. `runner` is given the run in the same
        step; None, and no claim, if it stands by no more.
        """
        epoch = await self._store.run(
            "claim_run",
            [
                keys.job(org, job_id),
                keys.QUEUED_JOBS,
                keys.RUNNING_JOBS,
                keys.LAST_STARTS,
                keys.STANDBY_RUNNERS,
                keys.runner(runner.name) if runner else "",
            ],
            [
                script_argument(
                    {
                        "lease_ms": int(lease_s * 1000),
                        "dead_epoch": None if dead_epoch is None else str(dead_epoch),
                        "now": int(time.time()),
                        "org": org,
                        "job": job_id,
                        "member": f"{org} {job_id}",
                        "channel": keys.CHANGES_CHANNEL,
                        "message": change_message("job", org, job_id),
                        "runner": runner
                        and {"name": runner.name, "member": runner.member, "ttl_s": self._job_ttl_s},
                    }
                )
            ],
        )
        return epoch if epoch > 0 else None

    async def renew(self, org: str, job_id: str, epoch: int, lease_s: float) -> bool:
        """Prolong the run's lease; False when the run must stop: it is fenced off, or the job ended."""
        return await self._write_run(org, job_id, epoch, lease_s, {})

    async def set_plan(
        self,
        org: str,
        job_id: str,
        epoch: int,
        *,
        total: int,
        shard_count: int,
        plan: Mapping[str, object],
        lease_s: float,
    ) -> bool:
        """Write what staging found: the number of records, of shards, and where the input lies."""
        values = {"total": total, "shard_count": shard_count, "plan": dict(plan)}
        return await self._write_run(org, job_id, epoch, lease_s, encode_fields(BatchJob, values))

    async def _write_run(
        self, org: str, job_id: str, epoch: int, lease_s: float, fields: Mapping[str, str]
    ) -> bool:
        arguments: Sequence[str | int] = [epoch, int(lease_s * 1000), json.dumps(fields)]
        return bool(await self._store.run("write_run", [keys.job(org, job_id)], arguments))

    async def committed(self, org: str, job_id: str) -> dict[int, ShardCounts]:
        """Every committed shard. They are read in a thread: there may be many."""
        async with translated():
            stored = await cast(
                Awaitable[dict[str, str]], self._store.redis.hgetall(keys.job_shards(org, job_id))
            )
        return dict(zip(map(int, stored), await _parsed(list(stored.values())), strict=True))

    async def committed_prefix(self, org: str, job_id: str, start: int = 0) -> list[ShardCounts]:
        """The committed shards from `start` on, up to one that is not; read as those of `committed` are."""
        found: list[str] = []
        while True:
            first = start + len(found)
            async with translated():
                texts = await cast(
                    Awaitable[list[str | None]],
                    self._store.redis.hmget(
                        keys.job_shards(org, job_id), [str(first + at) for at in range(_PREFIX_STEP)]
                    ),
                )
            known = [text for text in takewhile(bool, texts) if text]
            found += known
            if len(known) < _PREFIX_STEP:
                return await _parsed(found)

    async def is_committed(self, org: str, job_id: str, shard: int) -> bool:
        """Whether this shard is in the output already."""
        async with translated():
            return bool(await self._store.redis.hexists(keys.job_shards(org, job_id), str(shard)))

    async def commit_shard(
        self, org: str, job_id: str, epoch: int, shard: int, counts: ShardCounts
    ) -> CommitOutcome:
        """Make the shard's part output, and progress of what no gap precedes, in one step; see `CommitOutcome`."""
        text = json.dumps({"succeeded": counts.succeeded, "failed": counts.failed, "part": dict(counts.part)})
        answer = await self._store.run(
            "commit_shard",
            [keys.job(org, job_id), keys.job_shards(org, job_id)],
            [epoch, shard, text],
        )
        return CommitOutcome(answer)

    async def finish(
        self,
        job: BatchJob,
        status: JobStatus,
        *,
        epoch: int | None = None,
        error: Mapping[str, object] | None = None,
        output: Mapping[str, object] | None = None,
    ) -> JobStatus | None:
        """Give the job its terminal status, once, with the outbox row of its webhook.

        Returns the status that now holds: `status` if this call set it, the one that was there before if the lifecycle
        forbids the step, None if the job is gone or `epoch` is fenced off.
        """
        now = int(time.time())
        fields = {"status": status, "finished": now, "lease_until": 0, "error": error, "output": output}
        delivery_id = new_id("msg") if job.webhook else None
        answer = await self._store.run(
            "finish_job",
            [
                keys.job(job.org, job.id),
                keys.job_shards(job.org, job.id),
                keys.OPEN_JOBS,
                keys.delivery(job.org, delivery_id) if delivery_id else "",
                keys.OUTBOX,
                keys.UNASSEMBLED_JOBS,
                keys.QUEUED_JOBS,
                keys.RUNNING_JOBS,
                keys.job_deliveries(job.org, job.id),
            ],
            [
                script_argument(
                    {
                        "from": predecessors(JOB, status),
                        "fields": encode_fields(BatchJob, fields),
                        "epoch": None if epoch is None else str(epoch),
                        "member": f"{job.org} {job.id}",
                        "ttl_s": self._job_ttl_s,
                        "delivery": _delivery(job, delivery_id, status, now) if delivery_id else None,
                        "delivery_member": f"{job.org} {delivery_id}" if delivery_id else None,
                        "delivery_message": change_message("delivery", job.org, delivery_id or ""),
                        "channel": keys.CHANGES_CHANNEL,
                        "message": change_message("job", job.org, job.id),
                    }
                )
            ],
        )
        if answer == "changed":
            return status
        return None if answer in ("missing", "fenced") else JobStatus(answer)

    async def set_output(self, org: str, job_id: str, output: Mapping[str, object]) -> None:
        """Attach the partial results to a job that ended without all of them.

        The first to do so decides: whoever comes second may have found files gone that nobody needs any more. One that
        is `delivered` takes the place of one that is not. A record that expired meanwhile is not made anew.
        """
        encoded = encode_fields(BatchJob, {"output": output})["output"]
        await self._store.run("set_output", [keys.job(org, job_id)], [encoded])

    async def set_assembled(self, org: str, job_id: str) -> None:
        """Nothing is left to do about the end of this job."""
        async with translated():
            await self._store.redis.srem(keys.UNASSEMBLED_JOBS, f"{org} {job_id}")

    async def unassembled(self) -> list[tuple[str, str]]:
        """(organization, id) of each ended job of which output is missing, or files are left that nobody reads."""
        return await self._store.read_members(keys.UNASSEMBLED_JOBS)

    async def recorded_ids(self) -> set[str]:
        """The ids of all jobs that have a record, of all organizations. Walks every key: not for a request."""
        async with translated():
            found = self._store.redis.scan_iter(match=keys.all_jobs(), count=_SCAN_COUNT, _type="HASH")
            return {key.rpartition(":job:")[2].partition(":")[0] async for key in found}

    async def forget_expired_deliveries(self) -> int:
        """Take the deliveries whose records expired out of the outbox; how many there were."""
        redis = self._store.redis
        async with translated():
            members = cast(list[str], await redis.zrange(keys.OUTBOX, 0, -1))
            pipeline = redis.pipeline(transaction=False)
            for member in members:
                org, _, delivery_id = member.partition(" ")
                pipeline.exists(keys.delivery(org, delivery_id))
            is_there = await pipeline.execute() if members else []
        expired = [member for member, exists in zip(members, is_there, strict=True) if not exists]
        await self._store.remove_members(keys.OUTBOX, expired)
        return len(expired)


async def _parsed(texts: Sequence[str]) -> list[ShardCounts]:
    if not texts:
        return []
    return await asyncio.to_thread(lambda: [ShardCounts(**json.loads(text)) for text in texts])


def _delivery(job: BatchJob, delivery_id: str, status: JobStatus, now: int) -> dict[str, str]:
    return {
        "id": delivery_id,
        "org": job.org,
        "job": job.id,
        "type": f"batch.{status}",
        "url": job.webhook or "",
        "status": DeliveryStatus.PENDING,
        "attempts": "0",
        "created": str(now),
        "schema": "1",
    }
