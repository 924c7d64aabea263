"""Runs that end before their job does: what the next one finds, and does."""

from __future__ import annotations

import gzip

import pytest

from batch.endings import free_staged_before
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import ShardCounts
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.jobs import JobStore
from tests.unit.batch.bench import Bench
from tests.unit.batch.test_runner import ROWS, KilledError

pytestmark = pytest.mark.anyio


async def test_redis_away_at_the_very_end_fails_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row had its result; the next run says so."""
    committed, calls = JobStore.committed, list[str]()

    async def away_once(store: JobStore, org: str, name: str) -> dict[int, ShardCounts]:
        calls.append(name)
        if len(calls) == 3:
            raise PlatformError("unavailable", "Redis does not answer.")
        return await committed(store, org, name)

    monkeypatch.setattr(JobStore, "committed", away_once)
    job = await bench.create_job(ROWS, "rows.jsonl")
    with pytest.raises(PlatformError, match="Redis does not answer"):
        await bench.run(job)
    ended = await bench.run(job, epoch=await bench.epoch_after(job, 1))
    assert (ended.status, ended.error) == (JobStatus.COMPLETED, None)


async def test_runs_that_die_while_they_stage_leave_one_input(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty of ten gigabytes filled the disk of everybody. What a newer run staged is not an older one's to remove."""

    def die(*_: object) -> None:
        raise KilledError

    monkeypatch.setattr("batch.runner.make_plan", die)
    job = await bench.create_job(gzip.compress(ROWS), "rows.jsonl.gz")
    folder = bench.job_folder(job)
    for epoch in (1, 2, 3):
        with pytest.raises(KilledError):
            await bench.run(job, epoch=await bench.epoch_after(job, epoch - 1) if epoch > 1 else None)
        assert [path.name for path in folder.glob("input-*")] == [f"input-{epoch}"]
    free_staged_before(folder, 2)
    assert [path.name for path in folder.glob("input-*")] == ["input-3"]
