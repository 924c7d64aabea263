"""Jobs in Redis: claims, fencing, exactly-once commits, one terminal status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import CreationOutcome, Idempotency
from fyretoolkit.store.job_queue import JobQueue
from fyretoolkit.store.jobs import JobStore

Run = Callable[[Callable[[Store], Any]], Any]
COUNTS = ShardCounts(succeeded=2, failed=1, part={"results": "part-0"})
TTL_S = 1000


def new_job(**values: Any) -> BatchJob:
    """A queued job."""
    job = BatchJob(
        id=new_id("job"),
        org="org_a",
        status=JobStatus.QUEUED,
        model="m",
        artifact="a" * 64,
        spec={"kind": "text"},
        input_url="file:///in.jsonl",
        created=1,
        metadata={"team": "søk"},
    )
    return replace(job, **values)


def test_a_job_is_read_as_it_was_written(with_store: Run) -> None:
    """Every field survives, nested JSON and None included; another organization does not see it."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        assert await jobs.get("org_a", job.id) == job
        assert await jobs.get("org_b", job.id) is None
        assert await jobs.open_jobs() == [job]

    with_store(scenario)


def test_only_one_of_many_claims_wins(with_store: Run) -> None:
    """Twenty claims at once: one epoch; the job is processing and started."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        claims = await asyncio.gather(*(jobs.claim_run(job.org, job.id, lease_s=5) for _ in range(20)))
        assert sorted(claims, key=str) == [1, *[None] * 19]
        claimed = await jobs.get(job.org, job.id)
        assert claimed is not None
        assert (claimed.status, claimed.epoch, claimed.runs) == (JobStatus.PROCESSING, 1, 1)
        assert claimed.started is not None

    with_store(scenario)


def test_a_dead_run_is_followed_and_fenced_off(with_store: Run) -> None:
    """The next run has a higher epoch; the old one can neither renew nor plan nor commit nor finish."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        assert await jobs.claim_run(job.org, job.id, lease_s=60) == 1
        assert await jobs.claim_run(job.org, job.id, lease_s=60) is None
        assert await jobs.claim_run(job.org, job.id, lease_s=60, dead_epoch=1) == 2
        assert not await jobs.renew(job.org, job.id, 1, 60)
        assert not await jobs.set_plan(job.org, job.id, 1, total=9, shard_count=9, plan={}, lease_s=60)
        assert await jobs.commit_shard(job.org, job.id, 1, 0, COUNTS) is CommitOutcome.FENCED
        assert await jobs.finish(job, JobStatus.COMPLETED, epoch=1) is None
        assert await jobs.renew(job.org, job.id, 2, 60)
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert (after.total, after.succeeded, after.status) == (None, 0, JobStatus.PROCESSING)

    with_store(scenario)


def test_a_lease_that_ended_may_be_claimed(with_store: Run) -> None:
    """No word of a death is needed once the lease is over."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        assert await jobs.claim_run(job.org, job.id, lease_s=0) == 1
        assert await jobs.claim_run(job.org, job.id, lease_s=60) == 2

    with_store(scenario)


def test_a_shard_counts_once(with_store: Run) -> None:
    """Committing a shard again changes neither counts nor part."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        epoch = await jobs.claim_run(job.org, job.id, lease_s=60) or 0
        again = replace(COUNTS, succeeded=50, part={"results": "other"})
        assert await jobs.commit_shard(job.org, job.id, epoch, 0, COUNTS) is CommitOutcome.COMMITTED
        assert await jobs.commit_shard(job.org, job.id, epoch, 0, again) is CommitOutcome.DUPLICATE
        assert await jobs.committed(job.org, job.id) == {0: COUNTS}
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert (after.succeeded, after.failed) == (2, 1)

    with_store(scenario)


def test_progress_counts_what_no_gap_precedes(with_store: Run) -> None:
    """Shards are committed in any order; each counts once all before it did, so progress is what can be read."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        epoch = await jobs.claim_run(job.org, job.id, lease_s=60) or 0
        seen = []
        for shard in (2, 0, 5, 3, 1, 4):
            counts = replace(COUNTS, succeeded=10**shard, failed=1)
            await jobs.commit_shard(job.org, job.id, epoch, shard, counts)
            after = await jobs.get(job.org, job.id)
            assert after is not None
            seen.append((after.prefix, after.succeeded, after.failed))
        assert seen == [(0, 0, 0), (1, 1, 1), (1, 1, 1), (1, 1, 1), (4, 1111, 4), (6, 111111, 6)]

    with_store(scenario)


def test_progress_of_a_job_from_before_there_were_prefixes_is_counted_anew(with_store: Run) -> None:
    """It had counted every commit, gap or not."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        job = await committed_job(jobs)
        await store.redis.hdel(keys.job(job.org, job.id), "prefix")
        await jobs.commit_shard(job.org, job.id, 1, 2, COUNTS)
        await jobs.commit_shard(job.org, job.id, 1, 1, COUNTS)
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert (after.prefix, after.succeeded, after.failed) == (3, 6, 3)

    with_store(scenario)


@pytest.mark.parametrize("first", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED])
def test_one_terminal_status_ever(with_store: Run, first: JobStatus) -> None:
    """Whatever ends the job first, every later end is told which status holds; the record expires."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        epoch = await jobs.claim_run(job.org, job.id, lease_s=60)
        assert await jobs.finish(job, first, epoch=epoch) is first
        for later in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED):
            assert await jobs.finish(job, later) is first
        assert await jobs.claim_run(job.org, job.id, lease_s=60) is None
        assert await jobs.commit_shard(job.org, job.id, epoch or 0, 0, COUNTS) is CommitOutcome.FENCED
        assert await jobs.open_jobs() == []
        assert 0 < await store.redis.ttl(keys.job(job.org, job.id)) <= TTL_S

    with_store(scenario)


def test_the_webhook_is_in_the_outbox_with_the_end(with_store: Run) -> None:
    """One row for the one end; none for a job without a webhook, none for an end that came too late."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job(webhook="https://example.com/hook")
        await jobs.create(job)
        await jobs.finish(job, JobStatus.CANCELED)
        await jobs.finish(job, JobStatus.FAILED)
        await jobs.create(silent := new_job())
        await jobs.finish(silent, JobStatus.CANCELED)
        ((member, _),) = await store.redis.zrange(keys.OUTBOX, 0, -1, withscores=True)
        delivery = await store.read_hash(keys.delivery(*member.split(" ")))
        assert (delivery["type"], delivery["job"], delivery["status"]) == (
            "batch.canceled",
            job.id,
            "pending",
        )

    with_store(scenario)


async def committed_job(jobs: JobStore, **values: Any) -> BatchJob:
    """A job of epoch 1 with one committed shard."""
    job = new_job(**values)
    await jobs.create(job)
    assert await jobs.claim_run(job.org, job.id, lease_s=60) == 1
    assert await jobs.commit_shard(job.org, job.id, 1, 0, COUNTS) is CommitOutcome.COMMITTED
    return job


def test_a_commit_gives_the_runs_back(with_store: Run) -> None:
    """Runs are counted since the last commit: a job that gets on is not failed for being killed often."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        await jobs.claim_run(job.org, job.id, lease_s=60)
        await jobs.claim_run(job.org, job.id, lease_s=60, dead_epoch=1)
        before = await jobs.get(job.org, job.id)
        assert before is not None
        assert (before.runs, before.epoch) == (2, 2)
        await jobs.commit_shard(job.org, job.id, 2, 0, COUNTS)
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert (after.runs, after.epoch) == (0, 2)

    with_store(scenario)


def test_a_run_leaves_its_last_sign_of_life(with_store: Run) -> None:
    """`seen_ms` is the time of the claim, then of the renewal, whatever the lease."""

    async def scenario(store: Store) -> None:
        jobs, job = JobStore(store, TTL_S), new_job()
        await jobs.create(job)
        seen = []
        for call in (
            lambda: jobs.claim_run(job.org, job.id, lease_s=60),
            lambda: jobs.renew(job.org, job.id, 1, 4),
        ):
            before = await store.now_ms()
            await call()
            record = await jobs.get(job.org, job.id)
            assert record is not None
            assert before <= record.seen_ms <= await store.now_ms()
            seen.append(record.lease_until - record.seen_ms)
        assert seen == [60_000, 4_000]

    with_store(scenario)


def test_an_end_is_noted_until_nothing_is_left_to_do(with_store: Run) -> None:
    """With an output or without: somebody has to free what nobody reads."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        completed, canceled = await committed_job(jobs), await committed_job(jobs)
        assert await jobs.unassembled() == []
        await jobs.finish(completed, JobStatus.COMPLETED, epoch=1, output={"partial": False})
        await jobs.finish(canceled, JobStatus.CANCELED)
        await jobs.set_output(canceled.org, canceled.id, {"partial": True})
        assert set(await jobs.unassembled()) == {(job.org, job.id) for job in (completed, canceled)}
        for job in (completed, canceled):
            await jobs.set_assembled(job.org, job.id)
        assert await jobs.unassembled() == []

    with_store(scenario)


def test_the_first_output_of_a_job_stays(with_store: Run) -> None:
    """The second one may lack what the first one's author has freed."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        job = await committed_job(jobs)
        await jobs.finish(job, JobStatus.CANCELED)
        for output in ({"partial": True, "failed_rows": {"count": 1}}, {"partial": True}):
            await jobs.set_output(job.org, job.id, output)
        after = await jobs.get(job.org, job.id)
        assert after is not None
        assert after.output == {"partial": True, "failed_rows": {"count": 1}}

    with_store(scenario)


def test_the_end_of_a_job_that_never_ran_is_not_noted(with_store: Run) -> None:
    """It has no folder."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        await jobs.create(queued := new_job())
        await jobs.finish(queued, JobStatus.CANCELED)
        assert await jobs.unassembled() == []

    with_store(scenario)


def test_an_output_that_comes_too_late_revives_no_record(with_store: Run) -> None:
    """A record made anew would be half a job, and never expire."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        job = await committed_job(jobs)
        await jobs.finish(job, JobStatus.FAILED)
        await store.redis.delete(keys.job(job.org, job.id))
        await jobs.set_output(job.org, job.id, {"partial": True})
        assert not await store.redis.exists(keys.job(job.org, job.id))

    with_store(scenario)


def test_expired_deliveries_leave_the_outbox(with_store: Run) -> None:
    """Those that are there stay."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        for _ in range(3):
            await jobs.create(job := new_job(webhook="https://example.com/hook"))
            await jobs.finish(job, JobStatus.CANCELED)
        members = await store.redis.zrange(keys.OUTBOX, 0, -1)
        for member in members[:2]:
            await store.redis.delete(keys.delivery(*member.split(" ")))
        assert await jobs.forget_expired_deliveries() == 2
        assert await store.redis.zrange(keys.OUTBOX, 0, -1) == members[2:]
        assert await jobs.forget_expired_deliveries() == 0

    with_store(scenario)


def test_recorded_ids_are_those_of_all_organizations(with_store: Run) -> None:
    """The hash of a job's shards is no job of its own."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        made = {(await committed_job(jobs)).id, (await committed_job(jobs, org="org_b")).id}
        assert await jobs.recorded_ids() == made

    with_store(scenario)


def test_an_idempotency_key_makes_one_job(with_store: Run) -> None:
    """64 creations with one key: one is made, 63 get its answer; another body is refused."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)

        async def create(number: int) -> Any:
            job = new_job()
            claim = Idempotency("org_a", "POST /batch", "key", "same", f'{{"id":"{job.id}"}}')
            return await jobs.create(job, idempotency=claim)

        outcomes = await asyncio.gather(*(create(number) for number in range(64)))
        kinds = [outcome.outcome for outcome in outcomes]
        assert kinds.count(CreationOutcome.CREATED) == 1
        assert kinds.count(CreationOutcome.REPLAYED) == 63
        (job,) = await jobs.open_jobs()
        assert {outcome.answer for outcome in outcomes} == {None, f'{{"id":"{job.id}"}}'}
        other = Idempotency("org_a", "POST /batch", "key", "different", "{}")
        with pytest.raises(PlatformError) as refused:
            await jobs.create(new_job(), idempotency=other)
        assert refused.value.code == "idempotency_key_reused"

    with_store(scenario)


def test_pages_are_newest_first(with_store: Run) -> None:
    """Each page begins after the last of the one before; nothing is shown twice or left out."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        made = [new_job() for _ in range(7)]
        for job in made:
            await jobs.create(job)
        first = await jobs.page("org_a", 3)
        second = await jobs.page("org_a", 10, starting_after=first[-1].id)
        assert [job.id for job in first + second] == [job.id for job in reversed(made)]

    with_store(scenario)


def test_expired_jobs_leave_no_gap_in_a_page(with_store: Run) -> None:
    """A page is as long as asked for although records in its middle expired; their ids leave the list."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        made = [new_job() for _ in range(9)]
        for job in made:
            await jobs.create(job)
        for job in made[3:8]:
            await store.redis.delete(keys.job(job.org, job.id))
        assert [job.id for job in await jobs.page("org_a", 3)] == [made[number].id for number in (8, 2, 1)]
        assert await store.redis.zcard(keys.jobs("org_a")) == 4

    with_store(scenario)


def test_the_committed_prefix_ends_at_the_first_gap(with_store: Run) -> None:
    """However many shards there are: it is read in steps."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        job = await committed_job(jobs)
        assert await jobs.committed_prefix(job.org, job.id) == [COUNTS]
        for shard in range(2, 600):
            await jobs.commit_shard(job.org, job.id, 1, shard, replace(COUNTS, succeeded=shard))
        assert await jobs.committed_prefix(job.org, job.id) == [COUNTS]
        await jobs.commit_shard(job.org, job.id, 1, 1, replace(COUNTS, succeeded=1))
        found = await jobs.committed_prefix(job.org, job.id)
        assert [counts.succeeded for counts in found[1:]] == list(range(1, 600))
        assert await jobs.committed_prefix(job.org, "job_x") == []

    with_store(scenario)


def test_the_queue_is_left_with_the_claim_and_with_the_end(with_store: Run) -> None:
    """Positions are those of `core.job_queue`; a claim moves a job among the running ones, its end out of them."""

    async def scenario(store: Store) -> None:
        jobs, queue = JobStore(store, TTL_S), JobQueue(store)
        made = [new_job(org=org) for org in ("org_a", "org_b", "org_a", "org_b", "org_a")]
        ids = [job.id for job in made]
        assert await queue.positions("org_a", ids) == [1] * 5
        for job in made:
            await jobs.create(job)
        assert await queue.positions("org_a", ids[::2]) == [1, 3, 5]
        assert await queue.positions("org_b", ids[1::2]) == [2, 4]
        await jobs.claim_run(made[0].org, ids[0], lease_s=60)
        await jobs.finish(made[2], JobStatus.CANCELED)
        assert await queue.positions("org_a", [ids[4]]) == [2]
        assert await queue.positions("org_b", [ids[1], ids[3]]) == [1, 3]
        await jobs.claim_run(made[0].org, ids[0], lease_s=60, dead_epoch=1)
        waiting = [f"{made[number].org} {ids[number]}" for number in (4, 1, 3)]
        assert await store.redis.zrange(keys.QUEUED_JOBS, 0, -1) == waiting
        assert await store.redis.zrange(keys.RUNNING_JOBS, 0, -1) == [f"org_a {ids[0]}"]
        assert await queue.positions("org_a", []) == []
        await jobs.finish(made[0], JobStatus.CANCELED)
        assert await queue.running() == []

    with_store(scenario)


def test_a_job_that_was_queued_before_there_was_a_queue_runs_and_ends(with_store: Run) -> None:
    """Records of an earlier version are in no sorted set until they are put there."""

    async def scenario(store: Store) -> None:
        jobs, queue, older, newer = JobStore(store, TTL_S), JobQueue(store), new_job(), new_job()
        for job in (older, newer):
            await jobs.create(job)
        assert await jobs.claim_run(older.org, older.id, lease_s=60) == 1
        await store.redis.delete(keys.QUEUED_JOBS, keys.RUNNING_JOBS)
        assert await queue.positions(newer.org, [newer.id]) == [1]
        await queue.enlist()
        assert [job.id for job in await queue.running()] == [older.id]
        assert [job.id for job in await queue.first(newer.org, 5)] == [newer.id]
        assert await jobs.finish(newer, JobStatus.CANCELED) is JobStatus.CANCELED
        assert await jobs.finish(older, JobStatus.COMPLETED, epoch=1) is JobStatus.COMPLETED
        assert await queue.lines() == []


def test_what_the_queue_holds_wrongly_leaves_it_when_it_is_met(with_store: Run) -> None:
    """A record that expired, a job that ended in an earlier version: neither counts as running for ever."""

    async def scenario(store: Store) -> None:
        jobs, queue, gone, ended = JobStore(store, TTL_S), JobQueue(store), new_job(), new_job()
        for job in (gone, ended):
            await jobs.create(job)
            await jobs.claim_run(job.org, job.id, lease_s=60)
        await store.redis.delete(keys.job(gone.org, gone.id))
        await store.redis.hset(keys.job(ended.org, ended.id), "status", "completed")
        assert await queue.running() == []
        await store.redis.zadd(keys.QUEUED_JOBS, {f"{ended.org} {ended.id}": 0})
        assert await jobs.claim_run(ended.org, ended.id, lease_s=60) is None
        assert await queue.lines() == []

    with_store(scenario)


def test_more_calls_at_once_than_connections_wait_for_one(with_store: Run) -> None:
    """The 101st of simultaneous calls was answered with "unavailable"."""

    async def scenario(store: Store) -> None:
        jobs = JobStore(store, TTL_S)
        made = [new_job() for _ in range(300)]
        await asyncio.gather(*(jobs.create(job) for job in made))
        assert len(await jobs.open_jobs()) == 300

    with_store(scenario)


def test_a_store_that_is_away_is_a_typed_error() -> None:
    """No Redis: 503 with a Retry-After, not an exception of the client library."""

    async def scenario() -> None:
        store = Store("unix:///nonexistent/socket")
        with pytest.raises(PlatformError) as away:
            await JobStore(store, TTL_S).get("org_a", "job_x")
        assert (away.value.code, away.value.retry_after_s) == ("unavailable", 2)
        await store.close()

    asyncio.run(scenario())
