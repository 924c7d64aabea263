"""A disk without room: the platform's reserve stays, what does not fit is said, and the job that filled it frees it."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import pytest

from batch import retries
from batch.endings import free_spooled
from batch.joblog import read_events
from batch.leftovers import Leftovers
from batch.retries import keep_for_retry
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.jobs import JobStore
from tests.support.disks import free_with
from tests.unit.batch.bench import Bench
from tests.unit.batch.test_ends import killed_job, nobody
from tests.unit.batch.test_runner import ROWS

pytestmark = pytest.mark.anyio

FAILING = b'5\n"a"\n' + ROWS


def room_for(monkeypatch: pytest.MonkeyPatch, bench: Bench, room_bytes: int) -> None:
    """Let the disk have room for so much above the reserve."""
    free_with(monkeypatch, bench.settings.files.min_free_bytes + room_bytes)


async def test_failed_rows_are_not_copied_into_the_reserve(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """As many as the input has may fail. It is said as what it is, and nothing is left aside."""
    job = await bench.read_job(await killed_job(bench, 1, FAILING))
    store = bench.store()
    committed = await JobStore(store, 60).committed(job.org, job.id)
    await store.close()
    folder, reserve_bytes = bench.job_folder(job), bench.settings.files.min_free_bytes
    room_for(monkeypatch, bench, 1)
    with pytest.raises(PlatformError) as caught:
        keep_for_retry(folder, job, committed, reserve_bytes)
    assert caught.value.code == "storage_full"
    assert [path for path in folder.iterdir() if "failed-rows" in path.name] == []
    room_for(monkeypatch, bench, 1 << 20)
    kept = keep_for_retry(folder, job, committed, reserve_bytes)
    assert kept is not None
    assert (kept.count, (folder / kept.rows).read_bytes()) == (1, b"5\n")


async def canceled_without_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, content: bytes, room_bytes: int
) -> BatchJob:
    """A job over an input that was spooled, canceled; the controller looked at it three times."""
    job = await killed_job(bench, 3, gzip.compress(content), "rows.jsonl.gz")
    assert list(bench.job_folder(job).glob("input-*/*"))
    room_for(monkeypatch, bench, room_bytes)
    await looked_at(bench, job, times=3)
    return await bench.read_job(job)


async def looked_at(bench: Bench, job: BatchJob, *, times: int = 1) -> None:
    """Cancel the job, if that was not done, and let one controller look."""
    store = bench.store()
    jobs = JobStore(store, 60)
    await jobs.finish(job, JobStatus.CANCELED)
    leftovers = Leftovers(jobs, bench.settings, nobody)
    for _ in range(times):
        await leftovers.look()
    await store.close()


def lost(bench: Bench, job: BatchJob) -> int:
    """How often the job's log says that its failed rows are lost."""
    return [event["event"] for event in read_events(bench.job_folder(job))].count("failed_rows_lost")


@pytest.mark.parametrize(("content", "said"), [(ROWS, 0), (FAILING, 1)])
async def test_the_input_of_a_job_that_filled_the_disk_does_not_wait_for_its_output(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
    said: int,
):
    """It goes at once; failed rows without room are given up, which is said once, and so is that the output waits."""
    with caplog.at_level(logging.WARNING):
        job = await canceled_without_room(bench, monkeypatch, content, 1)
    assert job.output is None
    assert list(bench.job_folder(job).glob("input-*")) == []
    assert lost(bench, job) == said
    warned = [record for record in caplog.records if job.id in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in warned] == [("WARNING", None)]
    room_for(monkeypatch, bench, 1 << 20)
    await looked_at(bench, job)
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert "failed_rows" not in ended.output
    assert len(bench.lines(ended)) == ended.succeeded > 0
    assert [path for path in bench.job_folder(job).iterdir() if "failed-rows" in path.name] == []


async def test_failed_rows_that_fit_outlive_the_input_until_the_output_fits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """They are kept first: they are there when there is room for the output, and the job can be retried."""
    job = await canceled_without_room(bench, monkeypatch, FAILING, 50)
    assert job.output is None
    assert list(bench.job_folder(job).glob("input-*")) == []
    room_for(monkeypatch, bench, 1 << 20)
    await looked_at(bench, job)
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert ended.output["failed_rows"] == {
        "rows": "failed-rows-1", "numbers": "failed-rows-1.numbers", "count": 1,
    }  # fmt: skip
    assert lost(bench, job) == 0


async def test_failed_rows_that_another_kept_meanwhile_are_not_called_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Runner and controller may both be at it: one finds the input freed under its hands, by the other."""
    job = await killed_job(bench, 1, gzip.compress(FAILING), "rows.jsonl.gz")
    keep = retries.keep_failed_rows

    def overtaken(*arguments: Any, **more: Any) -> Any:
        keep(*arguments, **more)
        free_spooled(bench.job_folder(job))
        return keep(*arguments, **more)

    monkeypatch.setattr(retries, "keep_failed_rows", overtaken)
    await looked_at(bench, job)
    ended = await bench.read_job(job)
    assert ended.output is not None
    assert ended.output["failed_rows"]
    assert lost(bench, job) == 0


async def test_a_plan_without_room_ends_the_job_as_what_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A `file://` input needs no room, so its plan is the first thing that does; no later run would find more."""
    job = await bench.create_job(ROWS)
    room_for(monkeypatch, bench, 1)
    ended = await bench.run(job)
    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == (JobStatus.FAILED, "storage_full")
    assert list(bench.job_folder(job).glob("*plan*")) == []
