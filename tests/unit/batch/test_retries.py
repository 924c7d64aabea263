"""Retries: the failed rows alone, byte for byte, answered under the numbers of the first job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.boundaries import InputFormat, split_records
from batch.failed_rows import keep_failed_rows
from batch.joblog import read_events
from batch.layouts import read_layout
from batch.parts import PartLines, write_part
from batch.retries import keep_for_retry
from batch.shards import cut
from batch.sources import Source
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.jobs import JobStore
from tests.support.sentences import sentence
from tests.unit.batch.bench import Bench, LengthModel

pytestmark = pytest.mark.anyio

GIANT = b'{"id": "giant", "text": "' + b"x" * 2000 + b'"}'


class Forgiving(LengthModel):
    """A model that fails on nothing but numbers: "poison" was a passing trouble."""

    def _outcome(self, index: int, item: object) -> Any:
        return super()._outcome(index, "healed" if item == "poison" else item)


async def retried(bench: Bench, parent: BatchJob, **more: Any) -> BatchJob:
    """A job over the failed rows of another, run to its end."""
    child = await bench.create_job_over(parent.input_url, retry_of=parent.id, **more)
    return await bench.run(child)


def rows() -> list[bytes]:
    """Ten; 1 cannot be parsed, 3 is poison, 4 is too long, 6 lacks the field, 9 is poison, without a line end."""
    lines = [orjson.dumps({"id": f"r{i}", "text": "abc"}) for i in range(10)]
    lines[1], lines[4], lines[6] = b'{"id": "r1", "te', GIANT, b'{"id": "r6", "word": "a", "x": 1}'
    lines[3] = lines[9] = b'{"id": "p", "text": "poison"}'
    return lines


@sentence("jobs-29")
async def test_a_retry_answers_the_failed_rows_under_their_numbers(bench: Bench):
    """What was a passing trouble has results now; what is wrong with a row is said again in the same words."""
    parent = await bench.run(await bench.create_job(b"\n\n".join(rows())))
    assert (parent.status, parent.succeeded, parent.failed) == (JobStatus.COMPLETED, 5, 5)
    bench.model = Forgiving()
    child = await retried(bench, parent)
    assert (child.status, child.total, child.succeeded, child.failed) == (JobStatus.COMPLETED, 5, 2, 3)
    assert [(line["index"], line["id"]) for line in bench.lines(child)] == [(3, "p"), (9, "p")]
    again = {line["index"]: line for line in bench.lines(child, "errors")}
    first = {line["index"]: line for line in bench.lines(parent, "errors")}
    assert again == {index: first[index] for index in (1, 4, 6)}
    assert [line["line"] for line in again.values()] == [3, 9, 13]


@sentence("jobs-29")
async def test_a_retry_of_a_retry_keeps_the_numbers_of_the_first(bench: Bench):
    """The same lines once more, over what failed twice."""
    parent = await bench.run(await bench.create_job(b"\n".join(rows())))
    child = await retried(bench, parent)
    bench.model = Forgiving()
    grandchild = await retried(bench, child)
    assert [line["index"] for line in bench.lines(child, "errors")] == [1, 3, 4, 6, 9]
    assert [line["index"] for line in bench.lines(grandchild)] == [3, 9]
    assert bench.lines(grandchild, "errors") == [
        line for line in bench.lines(child, "errors") if line["index"] in (1, 4, 6)
    ]


async def test_csv_rows_are_retried_with_their_header(bench: Bench):
    """Quoted newlines, CRLF, a quote that never closes at the end: as they stood."""
    content = b'\xef\xbb\xbfid,text\r\na,"one\r\ntwo"\r\nb,poison\r\nc,"x"y\r\nd,poison\r\ne,"never\r\nclosed'
    parent = await bench.run(await bench.create_job(content, "rows.csv"))
    assert (parent.succeeded, parent.failed) == (1, 4)
    kept = bench.job_folder(parent) / "failed-rows-1"
    assert kept.read_bytes() == b'b,poison\r\nc,"x"y\r\nd,poison\r\ne,"never\r\nclosed'
    bench.model = Forgiving()
    child = await retried(bench, parent)
    assert [(line["index"], line["id"]) for line in bench.lines(child)] == [(1, "b"), (3, "d")]
    assert [(line["index"], line["line"]) for line in bench.lines(child, "errors")] == [(2, 5), (4, 7)]
    texts = [[line["error"] for line in bench.lines(job, "errors")] for job in (parent, child)]
    assert texts[1] == [texts[0][1], texts[0][3]]


async def test_the_first_row_of_the_first_job_says_what_the_only_field_is_called(bench: Bench):
    """The first of the failed rows is broken and names none."""
    lines = [b'{"sentence": "ab"}', b"{", b'{"sentence": "poison"}']
    parent = await bench.run(await bench.create_job(b"\n".join(lines)))
    assert (parent.succeeded, parent.failed) == (1, 2)
    bench.model = Forgiving()
    child = await retried(bench, parent)
    assert (child.succeeded, child.failed) == (1, 1)


async def test_the_input_may_be_gone_when_a_retry_begins(bench: Bench):
    """And the first job too, once the retry has begun: what it reads is linked."""
    parent = await bench.run(await bench.create_job(b"\n".join(rows())))
    bench.input_path(parent).unlink()
    assert (await retried(bench, parent)).failed == 5


async def test_failed_rows_of_a_job_that_did_not_complete_are_kept_too(bench: Bench):
    """All rows failed, or too many."""
    for rate, code in ((1.0, "all_rows_failed"), (0.1, "error_rate_exceeded")):
        content = b"5\n6\n" if rate == 1.0 else b'"a"\n6\n"poison"\n'
        parent = await bench.run(await bench.create_job(content, max_error_rate=rate))
        assert parent.error is not None
        assert parent.error["code"] == code
        assert (await retried(bench, parent)).total == 2


async def test_a_job_without_failed_rows_keeps_none(bench: Bench):
    """No empty files."""
    job = await bench.run(await bench.create_job(b'"a"\n"b"\n'))
    assert job.output is not None
    assert "failed_rows" not in job.output
    assert list(bench.job_folder(job).glob("failed-rows*")) == []


async def test_an_input_that_changed_costs_the_retry_and_not_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Its results are there; the log says why its failed rows are not."""
    job = await bench.create_job(b"\n".join(rows()))

    def replaced_meanwhile(*arguments: Any) -> Any:
        bench.input_path(job).write_bytes(b"other")
        return keep_for_retry(*arguments)

    monkeypatch.setattr("batch.runner.keep_for_retry", replaced_meanwhile)
    ended = await bench.run(job)
    assert (ended.status, ended.failed) == (JobStatus.COMPLETED, 5)
    assert ended.output is not None
    assert "failed_rows" not in ended.output
    assert "failed_rows_lost" in [event["event"] for event in read_events(bench.job_folder(job))]
    assert list(bench.job_folder(job).glob(".failed-rows*")) == []


async def test_a_part_that_was_damaged_names_no_rows(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Its lines look well and their numbers lead nowhere, or to the rows of others."""
    job = await bench.create_job(b"\n".join(rows()))

    def damaged_meanwhile(folder: Path, *arguments: Any) -> Any:
        errors = max(folder.glob("parts/*.errors*"), key=lambda path: path.stat().st_size)
        lines = [orjson.loads(line) for line in errors.read_bytes().splitlines()]
        errors.write_bytes(b"".join(orjson.dumps(line | {"index": 999}) + b"\n" for line in lines))
        return keep_for_retry(folder, *arguments)

    monkeypatch.setattr("batch.runner.keep_for_retry", damaged_meanwhile)
    ended = await bench.run(job)
    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == (JobStatus.FAILED, "run_failed")
    assert "failed_rows_lost" in [event["event"] for event in read_events(bench.job_folder(job))]


async def test_a_retry_of_a_job_that_expired_meanwhile_fails(bench: Bench):
    """Typed: the rows were kept with the first job."""
    parent = await bench.run(await bench.create_job(b"\n".join(rows())))
    child = await bench.create_job_over(parent.input_url, retry_of=parent.id)
    for path in bench.job_folder(parent).glob("failed-rows*"):
        path.unlink()
    ended = await bench.run(child)
    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == (JobStatus.FAILED, "input_not_found")
    orphan = await bench.run(await bench.create_job_over("https://a.example/x", retry_of="job_gone"))
    assert orphan.error is not None
    assert orphan.error["code"] == "input_not_found"


async def test_a_canceled_job_keeps_the_failed_rows_of_its_output(bench: Bench):
    """Those of the shards before the first gap, whatever else was committed."""
    job = await bench.create_job(b"\n".join(rows()))
    work = bench.inline()

    def out_of_order(run: Any, shards: Any, stop: Any) -> None:
        work(run, [shards[0], shards[1], shards[-1]], stop)
        raise RuntimeError("it dies")

    with pytest.raises(RuntimeError):
        await bench.run(job, work=out_of_order)
    store = bench.store()
    from batch.partials import assemble_partial

    jobs = JobStore(store, 60)
    await jobs.finish(await bench.read_job(job), JobStatus.CANCELED)
    await assemble_partial(jobs, await bench.read_job(job), bench.settings)
    await store.close()
    canceled = await bench.read_job(job)
    lines = bench.lines(canceled) + bench.lines(canceled, "errors")
    assert sorted(line["index"] for line in lines) == list(range(len(lines)))  # type: ignore[type-var]
    assert len(lines) == canceled.succeeded + canceled.failed < 10
    assert (await retried(bench, canceled)).total == canceled.failed


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(
    content=st.lists(
        st.sampled_from([b"a", b'"', b",", b"\n", b"\r\n", b"\r", b'""', b"xyz", b"\0", b"\xff"]), max_size=60
    ).map(b"".join),
    is_csv=st.booleans(),
    target=st.integers(1, 20),
    chosen=st.sets(st.integers(0, 60)),
)
def test_whatever_fails_comes_out_as_it_stood(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, is_csv: bool, target: int, chosen: set[int]
) -> None:
    """Any bytes, any rows of them: the same records, cut anew, oversized ones among them."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "parts").mkdir()
    path = folder / ("rows.csv" if is_csv else "rows.jsonl")
    path.write_bytes(b"h,i\n" + content if is_csv else content)
    layout = read_layout(path, name=path.name, content_type=None, max_header_bytes=100, max_columns=9)
    plan = cut(path, layout, target_bytes=target, max_record_bytes=12)
    status = path.stat()
    source = Source(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    parts, expected, indexes = {}, [], []
    for shard in plan.shards:
        lines = PartLines()
        chunk = path.read_bytes()[shard.start : shard.end]
        spans = split_records(chunk, plan.format)
        for place in range(shard.records):
            index = shard.first_record + place
            if index in chosen:
                lines.add_error(index, index + 1, None, "invalid_row", "x")
                indexes.append(index)
                span = spans[place]
                expected.append(chunk[span.start : span.end])
        parts[shard.index] = write_part(folder / "parts", shard.index, 1, lines)
    kept = keep_failed_rows(folder, plan, source, parts, 1)
    if kept is None:
        assert not expected
        return
    copied = (folder / kept.rows).read_bytes()
    found = split_records(copied, InputFormat(plan.format))
    assert [copied[span.start : span.end] for span in found] == expected
    numbers = np.fromfile(folder / kept.numbers, np.int64).reshape(-1, 2)
    assert numbers[:, 0].tolist() == indexes
    assert kept.count == len(indexes)
    again = cut(folder / kept.rows, replace(layout, start=0), target_bytes=target, max_record_bytes=12)
    assert again.total == len(indexes)
