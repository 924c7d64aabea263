"""A retry: the failed rows of a job that ended are the input of another.

They are kept with the first job's output and live as long as it; the second links them when it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from anyio import to_thread

from batch.assembly import Output
from batch.failed_rows import keep_failed_rows, take_failed_rows
from batch.joblog import JobLog
from batch.parts import Part
from batch.shards import Layout, Plan
from batch.sources import Source
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, ShardCounts
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore


def keep_for_retry(
    folder: Path, job: BatchJob, committed: Mapping[int, ShardCounts], output: Output | None
) -> dict[str, object] | None:
    """The output as the job stores it, with the failed rows that were kept.

    A job ends as it would without them if the input was changed or removed meanwhile, or a file of the job is damaged;
    its log says so.
    """
    if output is None:
        return None
    stored = output.to_json()
    plan = cast(Mapping[str, Any], job.plan or {})
    try:
        kept = keep_failed_rows(
            folder,
            Plan.from_json((folder / str(plan["shards"])).read_bytes()),
            Source.from_json(plan["source"]),
            {shard: Part.from_json(cast(Any, counts.part)) for shard, counts in committed.items()},
            job.epoch,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, PlatformError) as error:
        JobLog(folder, job.epoch).append("failed_rows_lost", error=f"{type(error).__name__}: {error}"[:1000])
        return stored
    return stored if kept is None else {**stored, "failed_rows": kept.to_json()}


async def take_retried(
    jobs: JobStore, job: BatchJob, folder: Path, settings: Settings
) -> tuple[Source, Layout]:
    """The input of a job that retries another.

    Raises:
        PlatformError: `input_not_found`, the other expired.
    """
    parent = await jobs.get(job.org, job.retry_of or "")
    kept = (parent.output or {}).get("failed_rows") if parent else None
    if parent is None or kept is None or parent.plan is None:
        raise PlatformError(
            "input_not_found", f"The job {job.retry_of}, whose failed rows these are, is gone."
        )
    return await to_thread.run_sync(
        take_failed_rows,
        settings.jobs_dir / parent.id,
        str(parent.plan["shards"]),
        cast(Mapping[str, object], kept),
        folder,
    )
