"""Batch jobs on the running platform: the same answers whichever way the rows came, and broken rows told apart."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import finished, lines, submit

pytestmark = pytest.mark.system

POSITIVE_COUNT = 1191  # the model run by ONNX Runtime over the rows one at a time


@pytest.fixture
def served(glosses: Path) -> Iterator[str]:
    """The URL of the glosses on a loopback HTTP server."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(glosses.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
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
    """Bad JSON, a missing field, a wrong type: three error lines with their line numbers, seven results, completed."""
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


def test_canceling_ends_a_job_once(client: httpx.Client, glosses: Path, tmp_path: Path) -> None:
    """Canceled at once, the same answer again; what it wrote is a prefix of whole shards."""
    path = tmp_path / "long.jsonl"
    path.write_bytes(glosses.read_bytes() * 20)
    name = submit(client, "sentiment-v1", path.as_uri())
    first = client.post(f"/jobs/{name}/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert client.post(f"/jobs/{name}/cancel").json()["status"] == "canceled"
    job = finished(client, name)
    assert job["status"] == "canceled"
    assert job["progress"]["processed"] < 2942 * 20


def test_an_input_that_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    """The job ends failed, with the code of its reason."""
    job = finished(client, submit(client, "sentiment-v1", (tmp_path / "no.jsonl").as_uri()))
    assert (job["status"], job["error"]["code"]) == ("failed", "input_not_found")
