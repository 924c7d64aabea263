"""`GET /jobs/{id}/output` and `/errors` before the files are assembled: what is committed so far."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from batch.endings import free_parts
from batch.partials import assemble_partial
from batch.parts import Part
from fyretoolkit.api.downloads import open_download
from fyretoolkit.core.downloads import DownloadKind
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import DEMO_KEY
from tests.support.api_bench import Bench
from tests.support.batch_jobs import ROWS, commit, complete, start_job, stored_job

pytestmark = pytest.mark.anyio


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def _indices(content: bytes) -> list[int]:
    return [json.loads(line)["index"] for line in content.splitlines()]


async def _get(bench: Bench, job_id: str, kind: str = "output", **options: Any) -> Any:
    return await bench.request("GET", f"/jobs/{job_id}/{kind}", **options)


async def test_results_come_before_the_end(bench: Bench) -> None:
    """Whole shards from the first on, up to one that is missing; each kind with its own lines."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0, 1, 3)
    output, errors = await _get(bench, job_id), await _get(bench, job_id, "errors")
    assert (output.status_code, errors.status_code) == (200, 200)
    assert (_indices(output.content), _indices(errors.content)) == ([0, 2, 3, 5], [1, 4])
    for response in (output, errors):
        assert response.headers["x-fyre-partial"] == "true"
        assert response.headers["content-type"].startswith("application/jsonl")
        assert int(response.headers["content-length"]) == len(response.content)
    await commit(bench, job_id, 2)
    later = (await _get(bench, job_id)).content
    assert later.startswith(output.content)
    assert _indices(later) == [0, 2, 3, 5, 6, 8, 9, 11]


async def test_a_job_that_is_processed_shows_no_url_yet(bench: Bench) -> None:
    job_id = await start_job(bench)
    await commit(bench, job_id, 0)
    job = (await bench.request("GET", f"/jobs/{job_id}")).json()
    assert (job["output_url"], job["errors_url"], job["partial"]) == (None, None, False)
    assert job["progress"]["processed"] == ROWS


@pytest.mark.parametrize("kind", ["output", "errors"])
@pytest.mark.parametrize("shards", [(), (1, 2)])
async def test_before_the_first_shard_there_is_nothing(
    bench: Bench, kind: str, shards: tuple[int, ...]
) -> None:
    job_id = await start_job(bench)
    await commit(bench, job_id, *shards)
    response = await _get(bench, job_id, kind)
    assert _code(response) == (409, "output_not_ready")
    assert f"Wait until GET /jobs/{job_id} shows {kind}_url" in response.json()["error"]["message"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_what_is_read_early_is_how_the_file_will_begin(bench: Bench, form: str) -> None:
    """So a download that was begun while the job ran can be continued when it is done."""
    job_id = await start_job(bench, output_format=form)
    early = []
    for shard in range(4):
        await commit(bench, job_id, shard)
        early.append((await _get(bench, job_id)).content)
    await complete(bench, job_id)
    whole = await _get(bench, job_id)
    assert (whole.status_code, whole.content) == (200, early[-1])
    assert "x-fyre-partial" not in whole.headers
    assert all(whole.content.startswith(content) for content in early)
    assert len(set(early)) == 4


async def test_csv_has_its_header_once(bench: Bench) -> None:
    job_id = await start_job(bench, output_format="csv")
    await commit(bench, job_id, 0, 1)
    response = await _get(bench, job_id)
    assert response.headers["content-type"].startswith("text/csv")
    assert f'filename="{job_id}-results.csv"' in response.headers["content-disposition"]
    assert list(csv.reader(io.StringIO(response.text, newline=""))) == [
        ["index", "id", "label", "score"],
        ["0", "row-0", "positive", "0.0"],
        ["2", "row-2", "positive", "0.25"],
        ["3", "row-3", "positive", "0.375"],
        ["5", "row-5", "positive", "0.625"],
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("value", "first", "end"),
    [("bytes=0-0", 0, 1), ("bytes=70-", 70, None), ("bytes=-9", -9, None), ("bytes=3-99999", 3, None)],
)
async def test_ranges_of_what_is_committed(
    bench: Bench, form: str, value: str, first: int, end: int | None
) -> None:
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0, 1, 2)
    whole = (await _get(bench, job_id)).content
    part = await _get(bench, job_id, headers={"range": value})
    wanted = range(len(whole))[first:end]
    assert (part.status_code, part.content) == (206, whole[first:end])
    assert part.headers["content-range"] == f"bytes {wanted[0]}-{wanted[-1]}/{len(whole)}"
    assert part.headers["x-fyre-partial"] == "true"


async def test_polling_behind_the_end_is_416_until_more_is_committed(bench: Bench) -> None:
    job_id = await start_job(bench)
    await commit(bench, job_id, 0)
    seen = len((await _get(bench, job_id)).content)
    rest = {"range": f"bytes={seen}-"}
    beyond = await _get(bench, job_id, headers=rest)
    assert _code(beyond) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{seen}"
    await commit(bench, job_id, 1)
    assert _indices((await _get(bench, job_id, headers=rest)).content) == [3, 5]


@pytest.mark.parametrize("value", ["bytes=0-1,3-4", "rows=0-1", "bytes=x", "bytes=5-3"])
async def test_what_is_not_one_range_gives_all_of_it(bench: Bench, value: str) -> None:
    """RFC 9110, 14.2: a server may ignore it."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0)
    whole = (await _get(bench, job_id)).content
    for headers in ({"range": value}, {"range": "bytes=0-1", "if-range": '"x"'}):
        response = await _get(bench, job_id, headers=headers)
        assert (response.status_code, response.content) == (200, whole)


async def test_head_tells_how_much_is_committed(bench: Bench) -> None:
    job_id = await start_job(bench)
    await commit(bench, job_id, 0, 1)
    size = len((await _get(bench, job_id)).content)
    head = await bench.request("HEAD", f"/jobs/{job_id}/output")
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["x-fyre-partial"]) == (str(size), "true")
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_a_canceled_job_has_its_results_at_once(bench: Bench, form: str) -> None:
    """Before anyone assembled them: the shards before the first gap, which progress counts, as the file will be."""
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0, 1, 3)
    canceled = (await bench.request("POST", f"/jobs/{job_id}/cancel")).json()
    assert (canceled["partial"], canceled["progress"]["processed"]) == (True, 2 * ROWS)
    early = await bench.request("GET", canceled["output_url"], key=None)
    errors = await bench.request("GET", canceled["errors_url"], key=None)
    assert (early.status_code, early.headers["x-fyre-partial"]) == (200, "true")
    assert _indices(errors.content) == [1, 4]
    job = await stored_job(bench, job_id)
    await assemble_partial(bench.services.jobs, job, bench.services.settings)
    assert (await stored_job(bench, job_id)).output is not None
    late = await bench.request("GET", canceled["output_url"], key=None)
    assert (late.content, late.headers["x-fyre-partial"]) == (early.content, "true")


async def test_a_job_of_failed_rows_alone_has_an_empty_output(bench: Bench) -> None:
    """There are shards, so there is an answer; CSV gets its header with the first result."""
    job_id = await start_job(bench, output_format="csv")
    await commit(bench, job_id, 0, is_all_bad=True)
    output, errors = await _get(bench, job_id), await _get(bench, job_id, "errors")
    assert (output.status_code, output.content) == (200, b"")
    assert _indices(errors.content) == [0, 1, 2]
    assert _code(await _get(bench, job_id, headers={"range": "bytes=0-"})) == (416, "range_not_satisfiable")
    await commit(bench, job_id, 1)
    assert (await _get(bench, job_id)).content.startswith(b"index,id,label,score\r\n3,row-3,")


async def _download(
    app: ASGIApp,
    job_id: str,
    *headers: tuple[bytes, bytes],
    after_first: Callable[[], Awaitable[None]] | None = None,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer; `after_first` happens when the first bytes have left."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 2 and after_first is not None:
            await after_first()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    authorization = (b"authorization", f"Bearer {DEMO_KEY}".encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/jobs/{job_id}/output",
        "query_string": b"",
        "headers": [authorization, *headers],
    }
    await app(scope, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("headers", [(), ((b"range", b"bytes=5-150"),)])
@pytest.mark.parametrize("block_bytes", [16, 1 << 20])
async def test_a_job_that_completes_meanwhile_takes_nothing_from_a_download(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    headers: tuple[tuple[bytes, bytes], ...],
    block_bytes: int,
) -> None:
    """Its parts are removed under the reader, in the middle of one or between two; he goes on in the assembled file."""
    monkeypatch.setattr("batch.assembly._BLOCK_BYTES", block_bytes)
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0, 1, 2)
    expected = await _get(bench, job_id, headers=dict(headers))

    async def end() -> None:
        await complete(bench, job_id)

    status, found, body = await _download(bench.app, job_id, *headers, after_first=end)
    assert not (bench.services.settings.jobs_dir / job_id / "parts").exists()
    assert (status, body) == (expected.status_code, expected.content)
    assert int(found[b"content-length"]) == len(body)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_a_job_that_completed_since_it_was_read_is_no_failure(bench: Bench, form: str) -> None:
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0, 1)
    expected = (await _get(bench, job_id)).content
    read_before = await stored_job(bench, job_id)
    await complete(bench, job_id)
    response = await open_download(bench.services, read_before, DownloadKind.OUTPUT)
    assert (await _download(response, job_id))[::2] == (200, expected)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_results_that_are_nowhere_have_a_final_answer(bench: Bench, form: str) -> None:
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0)
    free_parts(bench.services.settings.jobs_dir / job_id)
    assert _code(await _get(bench, job_id)) == (409, "no_output")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_results_that_are_lost_midway_break_the_connection(bench: Bench, form: str) -> None:
    """A body that is shorter than promised and looks whole would be the worst answer."""
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0, 1)

    async def lose() -> None:
        free_parts(bench.services.settings.jobs_dir / job_id)

    with pytest.raises(PlatformError, match="no_output"):
        await _download(bench.app, job_id, after_first=lose)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_what_is_not_what_was_committed_does_not_leave(bench: Bench, form: str) -> None:
    """A disk that changed a part: the failure is said, the lines are not."""
    job_id = await start_job(bench, output_format=form)
    await commit(bench, job_id, 0)
    (part,) = (bench.services.settings.jobs_dir / job_id / "parts").glob("part-000000-*[0-9a-f].jsonl")
    part.write_bytes(part.read_bytes().replace(b"positive", b"negative"))
    response = await _get(bench, job_id)
    assert _code(response) == (500, "run_failed")
    assert "damaged" in response.json()["error"]["message"]


async def test_a_client_that_goes_away_leaves_no_file_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.assembly._BLOCK_BYTES", 16)
    job_id = await start_job(bench)
    await commit(bench, job_id, 0, 1)
    folder = bench.services.settings.jobs_dir / job_id
    opened: list[list[Path]] = []
    gone = asyncio.Event()

    async def stay() -> None:
        opened.append(_open_files(folder))
        gone.set()
        await asyncio.Event().wait()

    download = asyncio.create_task(_download(bench.app, job_id, after_first=stay))
    await gone.wait()
    download.cancel()
    await asyncio.wait({download})
    assert download.cancelled()
    assert [len(files) for files in opened] == [1]
    assert _open_files(folder) == []


def _open_files(folder: Path) -> list[Path]:
    links = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    return [path for path in links if folder in path.parents]


async def test_what_was_read_once_is_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of shards are taken apart once, in a thread, however often and by how many they are asked for."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0, 1)
    read: list[tuple[int, bool]] = []
    from_json = Part.from_json

    def noted(stored: Any) -> Part:
        read.append((len(read), threading.current_thread() is threading.main_thread()))
        return from_json(stored)

    monkeypatch.setattr(Part, "from_json", noted)
    answers = await asyncio.gather(*(_get(bench, job_id, kind) for kind in ("output", "errors") * 5))
    assert {answer.status_code for answer in answers} == {200}
    assert read == [(0, False), (1, False)]
    await commit(bench, job_id, 2)
    assert _indices((await _get(bench, job_id)).content) == [0, 2, 3, 5, 6, 8]
    assert len(read) == 3


async def test_few_jobs_are_remembered(bench: Bench) -> None:
    """The parts of a large job take memory."""
    job_ids = [await start_job(bench) for _ in range(12)]
    for job_id in job_ids:
        await commit(bench, job_id, 0)
    for job_id in job_ids * 2:
        assert _indices((await _get(bench, job_id)).content) == [0, 2]
    assert len(bench.services.committed) <= 8
