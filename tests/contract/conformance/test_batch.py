"""Creating batch jobs, and what becomes of each kind of input."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.contract.conformance.runs import golden
from tests.support.conformance import Caller, Jobs, Organization, error_of, fields_of, lines
from tests.support.sentences import sentence

BATCH = "/batch/sentiment-v1"
INPUT = "https://data.example/rows.jsonl"


def outcome(caller: Caller, job: dict[str, Any]) -> list[tuple[int, Any, str]]:
    """(index, id, label) of each result of a completed job."""
    assert job["status"] == "completed", job
    return [
        (line["index"], line.get("id"), line["result"]["label"]) for line in lines(caller, job["output_url"])
    ]


@sentence("batch-1", "batch-3", "batch-7")
def test_a_job_is_accepted(fresh: Organization) -> None:
    """202, queued, with what was sent and where it is; the model is not deployed by this organization."""
    caller = fresh.caller
    body = {"input_url": INPUT, "webhook": "https://hooks.example/x", "metadata": {"a": [1]}}
    answer = caller.post(BATCH, body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["status"], job["model"]) == ("queued", "sentiment-v1")
    assert {name: job[name] for name in body} == body
    caller.post(f"/jobs/{job['id']}/cancel")


@sentence("batch-2", "batch-4", "batch-5", "batch-6")
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"input_url": None}, "input_url"),
        ({"webhook": 5}, "webhook"),
        ({"output_format": "parquet"}, "output_format"),
        ({"max_error_rate": -0.1}, "max_error_rate"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_fields_of_another_kind(caller: Caller, fields: dict[str, Any], path: str) -> None:
    """400 that names the field."""
    assert fields_of(caller.post(BATCH, {"input_url": INPUT, **fields})) == [path]


@sentence("batch-2")
def test_input_url_is_required(caller: Caller) -> None:
    """The only field that is."""
    assert fields_of(caller.post(BATCH, {})) == ["input_url"]


@sentence("batch-4", "batch-5")
def test_defaults(jobs: Jobs) -> None:
    """JSONL, and any share of rows may fail."""
    assert jobs["rows"]["output_format"] == "jsonl"
    assert (jobs["rows"]["status"], jobs["rows"]["progress"]["failed"]) == ("completed", 2)


@sentence("batch-6")
def test_timeout_s(jobs: Jobs) -> None:
    """A long input in one second."""
    job = jobs["too_slow"]
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")


@sentence("batch-7")
def test_metadata_comes_back_with_the_job(jobs: Jobs) -> None:
    """When it has ended too."""
    assert jobs["rows"]["metadata"] == {"team": "a"}


@sentence("batch-8")
@pytest.mark.parametrize("model", ["not-here", "Not%20A%20Slug"])
def test_an_unknown_model(caller: Caller, model: str) -> None:
    """Before anything is queued."""
    error_of(caller.post(f"/batch/{model}", {"input_url": INPUT}), 404, "model_not_found")


BAD_URLS = [
    "ftp://data.example/rows.csv",
    "http://169.254.169.254/rows.csv",
    "https://10.0.0.1/rows.csv",
    "https://[fd00::1]/rows.csv",
    "https://user:password@data.example/rows.csv",
    "nonsense",
]


@sentence("batch-9", "batch-10")
@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("field", ["input_url", "webhook"])
def test_an_address_that_is_not_allowed(caller: Caller, field: str, url: str) -> None:
    """422 at once, for the input and for the webhook alike."""
    error = error_of(caller.post(BATCH, {"input_url": INPUT, field: url}), 422, "url_not_allowed")
    assert [each["path"] for each in error["details"]["fields"]] == [field]


@sentence("batch-11")
def test_what_shows_while_fetching(jobs: Jobs) -> None:
    """A redirect to where nobody may go; nothing there."""
    redirected, missing = jobs["redirected"], jobs["missing"]
    assert (redirected["status"], redirected["error"]["code"]) == ("failed", "url_not_allowed")
    assert (missing["status"], missing["error"]["code"]) == ("failed", "input_not_found")
    assert all(job["error"]["message"] for job in (redirected, missing))


@sentence("batch-12", "batch-17")
def test_jsonl(caller: Caller, jobs: Jobs) -> None:
    """Objects, each with the id it brought, under either name."""
    assert outcome(caller, jobs["rows"]) == [
        (0, "a", "positive"),
        (1, "b", "negative"),
        (4, None, "positive"),
    ]


@sentence("batch-12")
def test_bare_values(caller: Caller, jobs: Jobs) -> None:
    """A string a line."""
    assert outcome(caller, jobs["bare"]) == [(0, None, "positive"), (1, None, "negative")]


@sentence("batch-13")
@pytest.mark.parametrize(("name", "rows"), [("named", 2), ("typed", 2), ("sniffed", 3)])
def test_how_the_format_is_told(jobs: Jobs, name: str, rows: int) -> None:
    """The same bytes: two rows as CSV by extension or by content type, three as JSONL by content."""
    assert jobs[name]["status"] == "completed"
    assert jobs[name]["progress"]["total"] == rows


@sentence("batch-14", "batch-16")
def test_zstd_and_the_only_column(caller: Caller, jobs: Jobs) -> None:
    """A compressed file of which the only column is called something else."""
    assert outcome(caller, jobs["only_column"]) == [(0, None, "positive")]


@sentence("batch-16")
def test_a_column_called_input(caller: Caller, jobs: Jobs) -> None:
    """Beside another one."""
    assert outcome(caller, jobs["input"]) == [(0, None, "positive")]


@sentence("batch-14", "batch-15", "batch-4", "jobs-17")
def test_columns_by_name_from_gzip_to_csv(caller: Caller, jobs: Jobs) -> None:
    """Columns in another order than the signature's, cells cast to its numbers; the output is CSV."""
    job = jobs["features"]
    assert job["status"] == "completed", job
    answer = caller.get(job["output_url"])
    assert answer.headers["content-type"].partition(";")[0] == "text/csv"
    (row,) = csv.DictReader(answer.text.splitlines())
    assert list(row)[:2] == ["index", "id"]
    assert (row["index"], row["label"]) == ("0", golden("breast_cancer")[0]["label"])


@sentence("batch-18", "batch-19", "batch-15")
def test_a_strange_csv(caller: Caller, jobs: Jobs) -> None:
    """BOM, CRLF, newlines in quotes, no newline at the end; `00123` keeps its zeros."""
    assert outcome(caller, jobs["csv"]) == [(0, "00123", "positive"), (1, "7", "negative")]


@sentence("batch-20")
def test_a_model_that_is_not_ready(fresh: Organization) -> None:
    """Training, then archived."""
    fresh.caller.made("/models", {"id": "mine", "status": "training"})
    for _ in range(2):
        error_of(fresh.caller.post("/batch/mine", {"input_url": INPUT}), 409, "model_not_ready")
        assert fresh.caller.post("/models/mine/archive").status_code == 200
