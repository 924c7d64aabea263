"""A retry: the failed rows of a job that ended are the input of another.

They are kept with the first job's output and live as long as it; the second links them when it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from anyio import to_thread

from batch.failed_rows import FailedRows, find_failed_rows, keep_failed_rows, take_failed_rows
from batch.joblog import JobLog
from batch.parts import Part
from batch.shards import Layout, Plan
from batch.sources import Source
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob, ShardCounts
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore


def keep_for_retry(
    folder: Path, job: BatchJob, committed: Mapping[int, ShardCounts], reserve_bytes: int
) -> FailedRows | None:
    """The failed rows of these shards, kept; None if there are none, or they are lost.

    What was found once stays so: the input may be freed then, before there is room for the output. A job ends as it
    would without them if the input was changed or removed meanwhile, or a file of the job is damaged; its log says so.

    Raises:
        PlatformError: `storage_full`, they would not leave `reserve_bytes` on the disk.
    """
    kept = find_failed_rows(folder, job.epoch)
    if kept is not None or _lost(folder, job).exists():
        return kept
    plan = cast(Mapping[str, Any], job.plan or {})
    try:
        return keep_failed_rows(
            folder,
            Plan.from_json((folder / str(plan["shards"])).read_bytes()),
            Source.from_json(plan["source"]),
            {shard: Part.from_json(cast(Any, counts.part)) for shard, counts in committed.items()},
            job.epoch,
            reserve_bytes=reserve_bytes,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, PlatformError) as error:
        if isinstance(error, PlatformError) and error.code == "storage_full":
            raise
        kept = find_failed_rows(folder, job.epoch)  # who kept them meanwhile has freed the input
        if kept is None:
            _note_lost(folder, job, error)
        return kept


def keep_what_fits(
    folder: Path, job: BatchJob, committed: Mapping[int, ShardCounts], reserve_bytes: int
) -> FailedRows | None:
    """The same; failed rows for which there is no room are lost.

    To wait for room would keep the whole input, which may be what the disk is full of.
    """
    try:
        return keep_for_retry(folder, job, committed, reserve_bytes)
    except PlatformError as no_room:
        _note_lost(folder, job, no_room)
        return None


def _note_lost(folder: Path, job: BatchJob, error: Exception) -> None:
    _lost(folder, job).touch()
    JobLog(folder, job.epoch).append("failed_rows_lost", error=f"{type(error).__name__}: {error}"[:1000])


def _lost(folder: Path, job: BatchJob) -> Path:
    """Is there while the output waits for room and its failed rows are lost; freed with what lies aside."""
    return folder / f".failed-rows-{job.epoch}.lost"


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
