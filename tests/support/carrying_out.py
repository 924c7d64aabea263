"""A job carried out as a runner does it, as far as its progress goes: three shards of three rows."""

from __future__ import annotations

from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench, until
from tests.support.batch_jobs import ROWS, commit, complete

SHARDS = 3


async def begin(bench: Bench) -> str:
    """Claims the one job that is there, or will be, and plans it; its id."""

    async def is_there() -> bool:
        return bool(await bench.services.jobs.open_jobs())

    await until(is_there)
    (job,) = await bench.services.jobs.open_jobs()
    jobs = bench.services.jobs
    assert await jobs.claim_run(DEMO_ORG, job.id, lease_s=60) == 1
    assert await jobs.set_plan(
        DEMO_ORG, job.id, 1, total=SHARDS * ROWS, shard_count=SHARDS, plan={}, lease_s=60
    )
    return job.id


async def carry_out(bench: Bench) -> str:
    """The same job to its end; its id."""
    job_id = await begin(bench)
    await commit(bench, job_id, *range(SHARDS))
    await complete(bench, job_id)
    return job_id
