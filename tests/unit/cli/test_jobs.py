"""`fyre batch run` and `fyre jobs`, with jobs that are carried out as a runner does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fyretoolkit.core.lifecycles import JobStatus
from tests.support.api_bench import Bench
from tests.support.batch_jobs import commit, complete, end_job, post_job, start_job, stored_job
from tests.support.carrying_out import carry_out
from tests.support.fyre_command import Fyre

REFUSED, MISUSED, CANCELED = 1, 2, 4


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A local file."""
    path = tmp_path / "rows.csv"
    path.write_text("text\ngood\n", "utf-8")
    return path


async def ended(bench: Bench, status: JobStatus) -> str:
    """A job that ended so."""
    await bench.add_model("digits")
    job_id: str = (await post_job(bench)).json()["id"]
    await end_job(bench, job_id, status)
    return job_id


async def with_failed_rows(bench: Bench) -> str:
    """A completed job of six rows, two of which failed."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0, 1)
    await complete(bench, job_id)
    return job_id


def test_a_local_file_is_uploaded_by_itself(fyre: Fyre, rows: Path) -> None:
    """The id alone is on stdout; what to do next on stderr."""
    fyre.act(fyre.bench.add_model, "digits")
    result = fyre.run("batch", "run", "digits", str(rows), "--metadata", "team=a", "--timeout-s", "60")
    assert result.exit_code == 0, result.stderr
    job = fyre.json("jobs", "get", result.stdout.strip())
    assert (job["status"], job["metadata"]) == ("queued", {"team": "a"})
    assert f"fyre jobs watch {job['id']}" in result.stderr
    (file,) = fyre.json("files", "list")["data"]
    assert (job["input_url"], file["filename"]) == (f"fyre://files/{file['id']}", "rows.csv")


def test_waiting_ends_with_the_summary_and_the_results(fyre: Fyre, rows: Path, tmp_path: Path) -> None:
    """Lines of progress on stderr, no bar: nobody looks at a pipe. Row errors lie beside the results."""
    fyre.act(fyre.bench.add_model, "digits")
    carried = fyre.soon(carry_out, fyre.bench)
    result = fyre.run("batch", "run", "digits", str(rows), "--output", str(tmp_path / "out.jsonl"))
    carried.result(60)
    assert result.exit_code == 0, result.stderr
    summary = dict(line.split("\t", 1) for line in result.stdout.splitlines())
    assert (summary["status"], summary["rows"], summary["failed rows"]) == ("completed", "9", "3")
    assert summary["results"] == str(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 6
    assert (tmp_path / "out.errors.jsonl").read_bytes().count(b"\n") == 3
    assert "completed 9/9, 3 failed" in result.stderr
    assert "\x1b" not in result.output


def test_json_prints_the_job_and_nothing_else(fyre: Fyre, rows: Path) -> None:
    fyre.act(fyre.bench.add_model, "digits")
    carried = fyre.soon(carry_out, fyre.bench)
    result = fyre.run("batch", "run", "digits", str(rows), "--wait", "--json")
    carried.result(60)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["progress"]["processed"] == 9


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(JobStatus.COMPLETED, 0), (JobStatus.FAILED, REFUSED), (JobStatus.CANCELED, CANCELED)],
)
def test_the_exit_code_is_that_of_the_job(fyre: Fyre, status: JobStatus, exit_code: int) -> None:
    """As `python -m batch.run` has it."""
    job_id = fyre.act(ended, fyre.bench, status)
    result = fyre.run("jobs", "watch", job_id)
    assert result.exit_code == exit_code
    assert f"status\t{status}" in result.stdout
    assert fyre.run("jobs", "watch", job_id, "--json").exit_code == exit_code


def test_results_that_lack_rows_are_named_so(fyre: Fyre, tmp_path: Path) -> None:
    """Nobody takes them for all."""
    job_id = fyre.act(start_job, fyre.bench)
    fyre.act(commit, fyre.bench, job_id, 0)
    assert "canceled" in fyre.done("jobs", "cancel", job_id)
    assert fyre.run("jobs", "watch", job_id, "--output", str(tmp_path / "out.jsonl")).exit_code == CANCELED
    assert not (tmp_path / "out.jsonl").exists()
    job = fyre.act(stored_job, fyre.bench, job_id)
    assert (tmp_path / "out.partial.jsonl").exists() is job.has_results


def test_results_are_json_lines(fyre: Fyre, tmp_path: Path) -> None:
    """In the order of the input, or as a file."""
    job_id = fyre.act(with_failed_rows, fyre.bench)
    lines = [json.loads(line) for line in fyre.done("jobs", "results", job_id).splitlines()]
    assert [line["index"] for line in lines] == [0, 2, 3, 5]
    assert lines[0] == {"index": 0, "id": "row-0", "result": {"label": "positive", "score": 0.0}}
    fyre.done("jobs", "results", job_id, "--output", str(tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 4


def test_failed_rows_say_why(fyre: Fyre, tmp_path: Path) -> None:
    """As lines in a pipe, or as a file; the summary says how to run them again."""
    job_id = fyre.act(with_failed_rows, fyre.bench)
    (first, _) = (json.loads(line) for line in fyre.done("jobs", "errors", job_id).splitlines())
    assert (first["index"], first["line"], first["error"]["code"]) == (1, 2, "invalid_row")
    fyre.done("jobs", "errors", job_id, "-o", str(tmp_path / "errors.jsonl"))
    assert (tmp_path / "errors.jsonl").read_bytes().count(b"\n") == 2
    assert f"fyre jobs retry {job_id}" in fyre.run("jobs", "get", job_id).stderr


def test_people_get_tables_of_rows(fyre: Fyre, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column for each field, the row that it is of, and what is left out."""
    for module in ("jobs", "output"):
        monkeypatch.setattr(f"fyretoolkit.cli.{module}.is_for_people", lambda: True)
    monkeypatch.setattr("fyretoolkit.cli.jobs._SHOWN", 3)
    job_id = fyre.act(with_failed_rows, fyre.bench)
    result = fyre.run("jobs", "results", job_id)
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["index", "id", "label", "score"]
    assert [row.split()[1] for row in rows] == ["row-0", "row-2", "row-3"]
    assert result.stderr == "The first 3 of 4; --json or --output gives all.\n"
    assert fyre.done("jobs", "errors", job_id).count("invalid_row") == 2
    assert len(fyre.done("jobs", "results", job_id, "--json").splitlines()) == 4


def test_a_retry_is_a_new_job(fyre: Fyre) -> None:
    async def kept(bench: Bench) -> str:
        job_id = await start_job(bench)
        await commit(bench, job_id, 0)
        rows = {"rows": "failed-rows-1", "numbers": "failed-rows-1.numbers", "count": 1}
        job = await stored_job(bench, job_id)
        await bench.services.jobs.finish(job, JobStatus.COMPLETED, output={"failed_rows": rows})
        return job_id

    job_id = fyre.act(kept, fyre.bench)
    again = fyre.json("jobs", "retry", job_id, "--metadata", "again=yes")
    assert (again["retry_of"], again["metadata"]) == (job_id, {"again": "yes"})
    assert fyre.done("jobs", "retry", job_id, "--idempotency-key", "k").startswith("job_")


def test_the_list_is_the_newest_first(fyre: Fyre) -> None:
    """As columns, with what was left out on stderr; as JSON with `has_more`."""
    made = [fyre.act(ended, fyre.bench, JobStatus.COMPLETED) for _ in range(3)]
    result = fyre.run("jobs", "list", "--limit", "2")
    header, *rows = result.stdout.splitlines()
    assert header.split("\t") == ["id", "status", "model", "done", "failed", "created"]
    assert [row.split("\t")[0] for row in rows] == [made[2], made[1]]
    assert "newest 2" in result.stderr
    listed = fyre.json("jobs", "list", "--limit", "2")
    assert ([job["id"] for job in listed["data"]], listed["has_more"]) == ([made[2], made[1]], True)
    assert fyre.json("jobs", "list")["has_more"] is False


def test_deliveries_of_the_webhook(fyre: Fyre) -> None:
    """Listed, and sent again."""

    async def canceled(bench: Bench) -> str:
        await bench.add_model("digits")
        job_id: str = (await post_job(bench, webhook="https://hooks.example/x")).json()["id"]
        await bench.request("POST", f"/jobs/{job_id}/cancel")
        return job_id

    job_id = fyre.act(canceled, fyre.bench)
    (delivery,) = fyre.json("jobs", "deliveries", job_id)["data"]
    assert delivery["type"] == "batch.canceled"
    assert delivery["id"] in fyre.done("jobs", "deliveries", job_id)
    again = fyre.json("jobs", "deliveries", job_id, "--redeliver", delivery["id"])
    assert (again["id"], again["status"]) == (delivery["id"], "pending")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("batch", "run", "digits", "nowhere.csv"), MISUSED, "Cannot use nowhere.csv: No such file"),
        (("batch", "run", "digits", "https://a.example/x", "--metadata", "x"), MISUSED, "K=V"),
        (("batch", "run", "nobody", "https://a.example/x"), REFUSED, "model_not_found: "),
        (("jobs", "get", "job_unknown"), REFUSED, "job_not_found: "),
        (("jobs", "get", ".."), MISUSED, "not an id"),
    ],
)
def test_refusals(fyre: Fyre, arguments: tuple[str, ...], exit_code: int, said: str) -> None:
    """Nothing on stdout, the reason on stderr."""
    result = fyre.run(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
