"""Runs of a job: from its claim to its one end, over kills, fences and cancels."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections import Counter
from collections.abc import Sequence

import orjson
import pytest

from batch.joblog import read_events
from batch.runs import Run
from batch.worker import ShardWorker
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.jobs import JobStore
from tests.unit.batch.bench import Bench, LengthModel, run_inline

ROWS = b"".join(orjson.dumps({"id": f"r{i}", "text": "x" * (i % 7)}) + b"\n" for i in range(30))

pytestmark = pytest.mark.anyio


class KilledError(BaseException):
    """Stands for SIGKILL: nothing on the way handles it."""


def committed_shards(events: Sequence[dict[str, object]]) -> Counter[object]:
    """How often each shard was committed."""
    return Counter(event["shard"] for event in events if event["event"] == "shard_committed")


async def test_a_job_runs_to_its_end(bench: Bench):
    """Results in input order with ids, exact counts, a digest, one terminal status."""
    job = await bench.run(await bench.create_job(ROWS))
    assert (job.status, job.total, job.succeeded, job.failed) == (JobStatus.COMPLETED, 30, 30, 0)
    assert job.shard_count > 5
    assert bench.lines(job) == [{"index": i, "id": f"r{i}", "result": {"length": i % 7}} for i in range(30)]
    assert job.output is not None
    assert job.output["partial"] is False
    assert committed_shards(read_events(bench.job_folder(job))) == Counter(range(job.shard_count))
    assert isinstance(bench.model, LengthModel)
    assert max(bench.model.calls) == 2


async def test_three_broken_rows_of_ten_are_three_error_lines(bench: Bench):
    """Bad JSON, a missing field, a wrong type: the job completes with seven results."""
    rows = [orjson.dumps({"id": i, "text": "abc"}) for i in range(10)]
    rows[1], rows[4], rows[8] = b'{"id": 1, "text"', b'{"id": 4, "word": 1, "x": 2}', b'{"id": 8, "text": 5}'
    job = await bench.run(await bench.create_job(b"\r\n".join(rows)))
    assert (job.status, job.succeeded, job.failed) == (JobStatus.COMPLETED, 7, 3)
    assert [line["index"] for line in bench.lines(job)] == [0, 2, 3, 5, 6, 7, 9]
    errors = bench.lines(job, "errors")
    assert [(line["index"], line["line"], line.get("id")) for line in errors] == [
        (1, 2, None),
        (4, 5, 4),
        (8, 9, 8),
    ]
    assert [line["error"]["code"] for line in errors] == ["invalid_row"] * 3  # type: ignore[index]


async def test_csv_gives_the_answers_of_jsonl(bench: Bench):
    """With quoted newlines and text cells, packed by gzip, to CSV output."""
    content = b"id,text\r\n" + b"".join(b'r%d,"a\n""%d"""\r\n' % (i, i) for i in range(12))
    job = await bench.run(await bench.create_job(gzip.compress(content), "rows.csv.gz", output_format="csv"))
    assert (job.status, job.succeeded) == (JobStatus.COMPLETED, 12)
    lines = bench.file(job).read_text().splitlines()
    assert lines[0] == "index,id,length"
    assert lines[1:] == [f"{i},r{i},{4 + len(str(i))}" for i in range(12)]


@pytest.mark.parametrize(
    ("content", "name", "more", "code"),
    [
        (b"5\n6\n", "rows.jsonl", {}, "all_rows_failed"),
        (b'"a"\n6\n"poison"\n', "rows.jsonl", {"max_error_rate": 0.5}, "error_rate_exceeded"),
        (b"", "rows.csv", {}, "invalid_format"),
        (b"\x1f\x8b broken", "rows.jsonl", {}, "invalid_format"),
    ],
)
async def test_a_job_that_cannot_complete_says_why(bench: Bench, content: bytes, name: str, more, code: str):
    """One stable code each."""
    job = await bench.run(await bench.create_job(content, name, **more))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == code


async def test_an_input_of_too_many_rows_fails_the_job(bench: Bench):
    """Whatever their bytes."""
    most = bench.settings.batch.model_copy(update={"max_rows": 3})
    bench.settings = bench.settings.model_copy(update={"batch": most})
    job = await bench.run(await bench.create_job(b"1\n2\n3\n4\n"))
    assert job.error is not None
    assert (job.error["code"], "more than 3 rows" in str(job.error["message"])) == ("input_too_large", True)


async def test_a_missing_input_fails_the_job(bench: Bench):
    """What shows only while fetching ends the job."""
    job = await bench.create_job(ROWS)
    bench.input_path(job).unlink()
    job = await bench.run(job)
    assert job.error is not None
    assert job.error["code"] == "input_not_found"


async def test_an_empty_input_is_a_job_of_no_rows(bench: Bench):
    """Completed, with empty files."""
    job = await bench.run(await bench.create_job(b"\n\n"))
    assert (job.status, job.total) == (JobStatus.COMPLETED, 0)
    assert bench.lines(job) == []


async def test_a_killed_run_goes_on_behind_its_last_commit(bench: Bench):
    """The second run does what is left; the output is that of an undisturbed job."""
    undisturbed = await bench.run(await bench.create_job(ROWS))

    def die_after_three(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards[:3], stop)
        raise KilledError

    job = await bench.create_job(ROWS, "again.jsonl")
    with pytest.raises(KilledError):
        await bench.run(job, work=die_after_three)
    job = await bench.read_job(job)
    assert (job.status, job.succeeded, job.epoch) == (JobStatus.PROCESSING, 6, 1)
    store = bench.store()
    epoch = await JobStore(store, 60).claim_run(job.org, job.id, lease_s=1, dead_epoch=1)
    await store.close()
    job = await bench.run(job, epoch=epoch)
    assert job.status is JobStatus.COMPLETED
    assert job.output is not None
    assert undisturbed.output is not None
    assert bench.file(job).read_bytes() == bench.file(undisturbed).read_bytes()
    assert job.output["results"]["sha256"] == undisturbed.output["results"]["sha256"]  # type: ignore[index]
    events = read_events(bench.job_folder(job))
    assert committed_shards(events) == Counter(range(job.shard_count))
    started = [(event["epoch"], event["shard"]) for event in events if event["event"] == "shard_started"]
    assert started[:3] == [(1, 0), (1, 1), (1, 2)]
    assert {shard for epoch, shard in started if epoch == 2} == set(range(3, job.shard_count))


async def test_a_fenced_run_commits_nothing_more(bench: Bench):
    """Two runs at once: the older is refused at its next commit and ends without a trace in the output."""
    job = await bench.create_job(ROWS)
    entered, leave = threading.Event(), threading.Event()

    def wait_inside(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        entered.set()
        assert leave.wait(60)
        worker = ShardWorker(run, load=lambda _: LengthModel(), is_niced=False)
        run_inline(worker, shards, threading.Event())  # it has not noticed yet

    old = asyncio.create_task(bench.run(job, work=wait_inside))
    assert await asyncio.to_thread(entered.wait, 60)
    store = bench.store()
    epoch = await JobStore(store, 60).claim_run(job.org, job.id, lease_s=1, dead_epoch=1)
    leave.set()
    await old
    assert await JobStore(store, 60).committed(job.org, job.id) == {}
    await store.close()
    job = await bench.run(job, epoch=epoch)
    assert job.status is JobStatus.COMPLETED
    assert len(bench.lines(job)) == 30
    assert {
        event["epoch"] for event in read_events(bench.job_folder(job)) if event["event"] == "shard_committed"
    } == {2}


async def test_a_canceled_run_stops_and_leaves_its_committed_shards(bench: Bench):
    """The partial output holds what was committed, in order; nothing is committed afterwards."""
    job = await bench.create_job(ROWS)

    async def cancel() -> None:
        store = bench.store()
        await JobStore(store, 60).finish(job, JobStatus.CANCELED)
        await store.close()

    def cancel_after_two(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards[:2], stop)
        asyncio.run(cancel())
        bench.inline()(run, shards[2:], stop)

    ended = await bench.run(job, work=cancel_after_two)
    assert (ended.status, ended.succeeded) == (JobStatus.CANCELED, 4)
    assert ended.output is not None
    assert ended.output["partial"] is True
    assert [line["index"] for line in bench.lines(ended)] == list(range(4))


async def test_a_run_that_does_not_notice_is_left_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A worker deep in a long inference cannot hold the runner."""
    monkeypatch.setattr("batch.runner._STOP_GRACE_S", 0.1)
    job = await bench.create_job(ROWS)
    release = threading.Event()

    async def cancel() -> None:
        store = bench.store()
        await JobStore(store, 60).finish(job, JobStatus.CANCELED)
        await store.close()

    def hang(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        asyncio.run(cancel())
        release.wait(60)

    try:
        ended = await asyncio.wait_for(bench.run(job, work=hang), timeout=30)
    finally:
        release.set()
    assert ended.status is JobStatus.CANCELED
    assert ended.output is None


async def test_an_input_that_changes_under_the_job_fails_it(bench: Bench):
    """Two inputs are never mixed; the shards committed before stay readable."""
    job = await bench.create_job(ROWS)
    path = bench.input_path(job)

    def change_after_two(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        bench.inline()(run, shards[:2], stop)
        path.write_bytes(ROWS.replace(b"x", b"y"))
        bench.inline()(run, shards[2:], stop)

    ended = await bench.run(job, work=change_after_two)
    assert (ended.status, ended.succeeded) == (JobStatus.FAILED, 4)
    assert ended.error is not None
    assert ended.error["code"] == "input_changed"
    assert ended.output is not None
    assert ended.output["partial"] is True


async def test_a_deadline_ends_the_job(bench: Bench):
    """`timeout_s` counts from the job's start, over all its runs."""
    job = await bench.create_job(ROWS, timeout_s=1)

    def wait_for_stop(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        assert stop.wait(60)

    ended = await bench.run(job, work=wait_for_stop)
    assert ended.status is JobStatus.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "deadline_exceeded"


async def test_a_job_that_ended_or_is_held_is_left_alone(bench: Bench):
    """A second run of a completed job, and one beside a living run, do nothing."""
    job = await bench.run(await bench.create_job(ROWS))
    assert await bench.run(job) == job
    held = await bench.create_job(ROWS)
    store = bench.store()
    assert await JobStore(store, 60).claim_run(held.org, held.id, lease_s=60) == 1
    await store.close()
    assert (await bench.run(held)).status is JobStatus.PROCESSING
    assert not bench.job_folder(held).exists()


async def test_an_unexpected_failure_leaves_the_job_to_the_next_run(bench: Bench):
    """Its lease ends; the log says what happened."""
    job = await bench.create_job(ROWS)

    def fail(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        await bench.run(job, work=fail)
    current = await bench.read_job(job)
    assert current.status is JobStatus.PROCESSING
    assert "no space" in str(read_events(bench.job_folder(job))[-1]["error"])
