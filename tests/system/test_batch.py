"""Batch jobs on the running platform: the same answers whichever way the rows came, and broken rows told apart."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch.shards import Plan
from fyretoolkit.launch import setup_worker
from tests.support.platform import RunningPlatform, finished, lines, submit, until

pytestmark = pytest.mark.system

COPIES = 60
POSITIVE_COUNT = 1191  # the model run by ONNX Runtime over the rows one at a time


@pytest.fixture
def served(glosses: Path) -> Iterator[str]:
    """The URL of the glosses on a loopback HTTP server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    handler = partial(Quiet, directory=str(glosses.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{glosses.name}"
        server.shutdown()


def labels(client: httpx.Client, job: dict[str, Any]) -> list[tuple[int, str, str]]:
    """(index, id, label) of each output line."""
    return [(line["index"], line["id"], line["result"]["label"]) for line in lines(client, job["output_url"])]


def test_jsonl_over_file_and_http(client: httpx.Client, glosses: Path, served: str) -> None:
    """Every row once, in input order, with its id, the right number positive, whatever the source."""
    jobs = [finished(client, submit(client, "sentiment-v1", url)) for url in (glosses.as_uri(), served)]
    answers = [labels(client, job) for job in jobs]
    ids = [json.loads(line)["id"] for line in glosses.read_text("utf-8").splitlines()]
    for job, rows in zip(jobs, answers, strict=True):
        assert (job["status"], job["progress"]) == (
            "completed",
            {"processed": 2942, "total": 2942, "succeeded": 2942, "failed": 0},
        )
        assert [(index, row_id) for index, row_id, _ in rows] == list(enumerate(ids))
        assert sum(label == "positive" for _, _, label in rows) == POSITIVE_COUNT
    assert answers[0] == answers[1]


def test_csv_with_newlines_in_cells(client: httpx.Client, glosses: Path, tmp_path: Path) -> None:
    """The same rows as CSV, every third space a newline: the same labels."""
    path = tmp_path / "glosses.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "word", "text"])
        for line in glosses.read_text("utf-8").splitlines():
            row = json.loads(line)
            words = row["text"].split(" ")
            text = "".join(
                word + ("\n" if number % 3 == 2 else " ") for number, word in enumerate(words)
            ).rstrip()
            writer.writerow([row["id"], row["word"], text])
    job = finished(client, submit(client, "sentiment-v1", path.as_uri()))
    assert job["status"] == "completed"
    rows = labels(client, job)
    assert len(rows) == 2942
    assert sum(label == "positive" for _, _, label in rows) == POSITIVE_COUNT


def test_three_broken_rows_of_ten(client: httpx.Client, tmp_path: Path) -> None:
    """Bad JSON, a missing field, a wrong type: three error lines with their line numbers, seven results, completed.

    Retried, the three alone fail again, each in the same words.
    """
    rows = [json.dumps({"id": f"r{number}", "text": f"sentence {number}"}) for number in range(10)]
    rows[2] = '{"id": "r2", "text": "unfinished'
    rows[5] = '{"id": "r5", "word": "no text"}'
    rows[8] = '{"id": "r8", "text": 42}'
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(rows), "utf-8")
    job = finished(client, submit(client, "sentiment-v1", path.as_uri()))
    assert (job["status"], job["progress"]["succeeded"], job["progress"]["failed"]) == ("completed", 7, 3)
    errors = lines(client, job["errors_url"])
    assert [(error["index"], error["line"]) for error in errors] == [(2, 3), (5, 6), (8, 9)]
    assert all(error["error"]["code"] and error["error"]["message"] for error in errors)
    assert [line["index"] for line in lines(client, job["output_url"])] == [0, 1, 3, 4, 6, 7, 9]
    path.unlink()
    answer = client.post(f"/jobs/{job['id']}/retry")
    assert answer.status_code == 202, answer.text
    again = finished(client, answer.json()["id"])
    assert (again["retry_of"], again["progress"]["total"]) == (job["id"], 3)
    assert (again["status"], again["error"]["code"]) == ("failed", "all_rows_failed")

    def kept() -> list[dict[str, Any]] | None:
        found = client.get(again["errors_url"])
        return [json.loads(line) for line in found.text.splitlines()] if found.status_code == 200 else None

    assert until(kept, timeout_s=60, what="the errors of the retry") == errors


@pytest.fixture
def long_input(glosses: Path, tmp_path: Path) -> Path:
    """176,520 rows: ten seconds of work for an idle machine."""
    path = tmp_path / "long.jsonl"
    path.write_bytes(glosses.read_bytes() * COPIES)
    return path


def runners(platform: RunningPlatform) -> list[int]:
    """The processes of this copy that hold a run."""
    return [each.pid for each in platform.titled("ray::RunnerActor")]


def committed_rows(platform: RunningPlatform, job_id: str) -> list[int]:
    """The indexes of all rows of the shards that are committed by the job's log, in order, up to the first gap."""
    folder = platform.home / "jobs" / job_id
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    committed = {event["shard"] for event in events if event["event"] == "shard_committed"}
    (plan_file,) = folder.glob("plan-*.json")
    shards = Plan.from_json(plan_file.read_bytes()).shards
    return [
        index
        for shard in takewhile(lambda shard: shard.index in committed, shards)
        for index in range(shard.first_record, shard.first_record + shard.records)
    ]


def test_canceling_a_job_before_it_runs(client: httpx.Client, long_input: Path) -> None:
    """Canceled at once, the same answer again; little or nothing was done."""
    name = submit(client, "sentiment-v1", long_input.as_uri())
    first = client.post(f"/jobs/{name}/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert client.post(f"/jobs/{name}/cancel").json()["status"] == "canceled"
    job = finished(client, name)
    assert job["status"] == "canceled"
    assert job["progress"]["processed"] < 2942 * COPIES


def test_canceling_a_job_that_runs(client: httpx.Client, platform: RunningPlatform, long_input: Path) -> None:
    """Its runner is soon gone; the output holds the committed shards, whole, and is marked as partial."""
    name = submit(client, "sentiment-v1", long_input.as_uri())
    until(
        lambda: client.get(f"/jobs/{name}").json()["progress"]["processed"] > 0,
        timeout_s=180,
        what="the first commit",
    )
    assert runners(platform) != []
    canceled = client.post(f"/jobs/{name}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    until(lambda: runners(platform) == [], timeout_s=60, what="no runner of a canceled job")

    def with_output() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/jobs/{name}").json()
        return job if job["output_url"] else None

    job = until(with_output, timeout_s=60, what="the output of a canceled job")
    assert (job["status"], job["partial"]) == ("canceled", True)
    rows = [index for index, _, _ in labels(client, job)]
    assert 0 < len(rows) == job["progress"]["succeeded"] < 2942 * COPIES
    assert rows == committed_rows(platform, name)


def test_an_input_that_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    """The job ends failed, with the code of its reason."""
    job = finished(client, submit(client, "sentiment-v1", (tmp_path / "no.jsonl").as_uri()))
    assert (job["status"], job["error"]["code"]) == ("failed", "input_not_found")


def test_the_raylet_starts_workers_by_our_program(platform: RunningPlatform) -> None:
    """Ray's takes a core from real time for each runner (decisions/0015)."""
    (raylet,) = (process for process in platform.processes() if process.name() == "raylet")
    assert any(setup_worker.__file__ in argument for argument in raylet.cmdline())
