"""Batch jobs without a runner: a test creates, commits and ends them by the means that a runner has."""

from __future__ import annotations

from typing import Any

from batch.endings import assemble_committed, free_parts
from batch.parts import PartLines, write_part
from fyretoolkit.core.jobs import BatchJob, CommitOutcome, ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench

INPUT = "https://data.example/rows.jsonl"
OUTPUT = b'{"index":0,"result":{"label":"positive"}}\n{"index":1,"result":{"label":"negative"}}\n'
ROWS = 3
"""Of each shard: two that have a result and one that failed between them."""


async def post_job(bench: Bench, **fields: Any) -> Any:
    """One `POST /batch/digits` with the demo key."""
    return await bench.request("POST", "/batch/digits", json={"input_url": INPUT, **fields})


async def stored_job(bench: Bench, job_id: str) -> BatchJob:
    """The demo organization's job, as it is stored now."""
    job = await bench.services.jobs.get(DEMO_ORG, job_id)
    assert job is not None
    return job


async def start_job(bench: Bench, **fields: Any) -> str:
    """A job that is being processed, by a run that writes nothing by itself; its id."""
    await bench.add_model("digits")
    job_id: str = (await post_job(bench, **fields)).json()["id"]
    assert await bench.services.jobs.claim_run(DEMO_ORG, job_id, lease_s=60) == 1
    return job_id


async def commit(bench: Bench, job_id: str, *shards: int, is_all_bad: bool = False) -> None:
    """Commits shards of `ROWS` records each."""
    folder = bench.services.settings.jobs_dir / job_id / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        lines = PartLines()
        for index in range(shard * ROWS, shard * ROWS + ROWS):
            if is_all_bad or index % ROWS == 1:
                lines.add_error(index, index + 1, None, "invalid_row", "The row cannot be read.")
            else:
                lines.add_result(index, f"row-{index}", {"label": "positive", "score": index / 8})
        part = write_part(folder, shard, 1, lines)
        counts = ShardCounts(len(lines.results), len(lines.errors), part.to_json())
        outcome = await bench.services.jobs.commit_shard(DEMO_ORG, job_id, 1, shard, counts)
        assert outcome is CommitOutcome.COMMITTED


async def end_job(bench: Bench, job_id: str, status: JobStatus) -> None:
    """Brings a job to its end with `OUTPUT` as its results and no error line."""
    jobs = bench.services.jobs
    await jobs.claim_run(DEMO_ORG, job_id, lease_s=10)
    folder = bench.services.settings.jobs_dir / job_id
    folder.mkdir(parents=True)
    (folder / "output.jsonl").write_bytes(OUTPUT)
    (folder / "errors.jsonl").write_bytes(b"")
    files = {name: {"name": f"{file}.jsonl"} for name, file in (("results", "output"), ("errors", "errors"))}
    assert await jobs.finish(await stored_job(bench, job_id), status, output=files) is status


async def complete(bench: Bench, job_id: str) -> None:
    """What a runner does after the last commit: assemble, end the job, remove the parts."""
    job = await stored_job(bench, job_id)
    folder = bench.services.settings.jobs_dir / job_id
    committed = await bench.services.jobs.committed(DEMO_ORG, job_id)
    output = assemble_committed(folder, job, committed, JobStatus.COMPLETED)
    assert output is not None
    ended = await bench.services.jobs.finish(job, JobStatus.COMPLETED, epoch=1, output=output.to_json())
    assert ended is JobStatus.COMPLETED
    free_parts(folder)
