"""Jobs: what they show while they run and after, downloads, and the end that is final."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.contract.conformance.runs import LongRun, Seen
from tests.support.conformance import Caller, Jobs, Organization, error_of, lines, without_request_id
from tests.support.sentences import sentence

FIELDS = {
    "id", "object", "status", "model", "created", "started", "finished", "input_url", "output_format", "progress",
    "queue_position", "expires_at", "retry_of", "output_url", "errors_url", "error", "partial", "webhook", "metadata",
}  # fmt: skip
STATUSES = {"queued", "processing", "completed", "failed", "canceled"}


def rows_of(seen: Seen) -> list[dict[str, Any]]:
    """The JSON lines of an answer."""
    assert seen.status == 200, seen
    return [json.loads(line) for line in seen.text.splitlines()]


@sentence("jobs-1")
def test_jobs_are_listed_and_read(caller: Caller, jobs: Jobs) -> None:
    """The list shows what the object shows."""
    listed = {job["id"]: job for job in caller.read("/jobs", params={"limit": 100})["data"]}
    for job in jobs.values():
        found = caller.read(f"/jobs/{job['id']}")
        for name in FIELDS - {"output_url", "errors_url"}:
            assert found[name] == job[name] == listed[job["id"]][name], name


@sentence("jobs-2", "jobs-3")
def test_the_fields(jobs: Jobs, long_run: LongRun) -> None:
    """All of them, in every state."""
    running = [seen.body for name, seen in long_run.answers.items() if name in ("queued", "processing")]
    every = [*jobs.values(), *running, long_run.answers["canceled"].body]
    for job in every:
        assert job.keys() == FIELDS
        assert job["object"] == "batch_job"
    assert {job["status"] for job in every} == STATUSES


@sentence("jobs-4")
def test_progress_counts_lines(caller: Caller, jobs: Jobs) -> None:
    """What was written, no more and no less."""
    for name in ("rows", "bare", "csv", "typed"):
        job = jobs[name]
        progress = job["progress"]
        assert progress.keys() == {"processed", "total", "succeeded", "failed"}
        assert progress["processed"] == progress["succeeded"] + progress["failed"] == progress["total"]
        assert len(lines(caller, job["output_url"])) == progress["succeeded"]
        assert len(lines(caller, job["errors_url"])) == progress["failed"]


@sentence("jobs-4")
def test_total_is_null_until_it_is_known(long_run: LongRun) -> None:
    """Before the input is read."""
    progress = long_run.answers["queued"].body["progress"]
    assert progress == {"processed": 0, "total": None, "succeeded": 0, "failed": 0}


@sentence("jobs-5")
def test_progress_never_goes_back(long_run: LongRun) -> None:
    """From one look to the next, and up to the end."""
    seen = [each["processed"] for each in long_run.progress]
    seen.append(long_run.answers["canceled_later"].body["progress"]["processed"])
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


@sentence("jobs-7")
def test_queue_position(long_run: LongRun, jobs: Jobs) -> None:
    """Behind two that run, the third is the first to wait."""
    assert long_run.answers["queued"].body["queue_position"] == 1
    assert long_run.answers["processing"].body["queue_position"] is None
    assert {job["queue_position"] for job in jobs.values()} == {None}


@sentence("jobs-8")
def test_expires_at(long_run: LongRun, jobs: Jobs) -> None:
    """Counted from the end."""
    assert long_run.answers["queued"].body["expires_at"] is None
    assert long_run.answers["processing"].body["expires_at"] is None
    for job in jobs.values():
        assert job["expires_at"] > job["finished"] >= job["created"]


@sentence("jobs-9")
def test_urls_and_partial(long_run: LongRun, jobs: Jobs) -> None:
    """Null before the end, set at the end; partial only if rows are missing."""
    for name in ("queued", "processing"):
        job = long_run.answers[name].body
        assert (job["output_url"], job["errors_url"], job["partial"]) == (None, None, False)
    assert all(jobs["rows"][name] for name in ("output_url", "errors_url"))
    assert jobs["rows"]["partial"] is False
    canceled = long_run.answers["canceled_later"].body
    assert (canceled["partial"], bool(canceled["output_url"])) == (True, True)
    assert jobs["over_rate"]["status"] == "failed"


@sentence("jobs-9", "jobs-10")
def test_a_canceled_job_has_its_rows_at_once(long_run: LongRun) -> None:
    """The look right after the cancel shows URLs, and they lead to what was committed."""
    canceled = long_run.answers["canceled"].body
    assert canceled["status"] == "canceled"
    assert canceled["output_url"]
    assert canceled["errors_url"]
    rows = rows_of(long_run.answers["canceled_output"])
    assert len(rows) == long_run.answers["canceled_later"].body["progress"]["succeeded"] > 0
    assert long_run.answers["canceled_output"].text.startswith(long_run.answers["prefix"].text)


@sentence("jobs-11")
def test_a_plain_get_with_the_key(caller: Caller, jobs: Jobs) -> None:
    """With or without what the URL carries."""
    url = jobs["rows"]["output_url"]
    for address in (url, f"/jobs/{jobs['rows']['id']}/output"):
        assert caller.get(address).status_code == 200
    assert caller.get(jobs["rows"]["errors_url"]).status_code == 200


@sentence("jobs-12")
def test_a_signed_url_without_a_key(caller: Caller, jobs: Jobs) -> None:
    """For both files, the same bytes."""
    anonymous = caller.with_key(None)
    for name in ("output_url", "errors_url"):
        url = caller.read(f"/jobs/{jobs['rows']['id']}")[name]
        assert "token=" in url
        given = anonymous.get(url)
        assert (given.status_code, given.content) == (200, caller.get(url).content)


@sentence("jobs-13")
def test_a_bad_signature(caller: Caller, jobs: Jobs) -> None:
    """Changed, or made for another file or job; with a key it does not matter."""
    anonymous = caller.with_key(None)
    job = caller.read(f"/jobs/{jobs['rows']['id']}")
    token = urlsplit(job["output_url"]).query
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    path = f"/jobs/{job['id']}"
    for url in (
        f"{path}/output?{changed}",
        f"{path}/errors?{token}",
        f"/jobs/{jobs['csv']['id']}/output?{token}",
        f"{path}/output?token=x",
    ):
        error_of(anonymous.get(url), 403, "invalid_signature")
    assert caller.get(f"{path}/output?{changed}").status_code == 200
    error_of(anonymous.get(f"{path}/output"), 401, "invalid_api_key")


@sentence("jobs-14")
def test_ranges(caller: Caller, jobs: Jobs) -> None:
    """The bytes asked for, from the front and from the end; behind the end there is nothing."""
    url = jobs["rows"]["output_url"]
    whole = caller.get(url).content
    for asked, start, end in (("bytes=0-9", 0, 9), ("bytes=5-", 5, len(whole) - 1), ("bytes=-4", -4, None)):
        answer = caller.get(url, headers={"range": asked})
        assert answer.status_code == 206
        expected = whole[start:] if end is None else whole[start : end + 1]
        assert answer.content == expected
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    beyond = caller.get(url, headers={"range": f"bytes={len(whole)}-"})
    error_of(beyond, 416, "range_not_satisfiable")


@sentence("jobs-15")
def test_output_lines(caller: Caller, jobs: Jobs) -> None:
    """Index, the id if there was one, the result; nothing else."""
    found = lines(caller, jobs["rows"]["output_url"])
    assert [line.keys() for line in found] == [
        {"index", "id", "result"}, {"index", "id", "result"}, {"index", "result"},
    ]  # fmt: skip
    assert [line["index"] for line in found] == [0, 1, 4]


@sentence("jobs-16")
def test_error_lines(caller: Caller, jobs: Jobs) -> None:
    """Index, line of the file, the id if it could be read, why."""
    malformed, misfit = lines(caller, jobs["rows"]["errors_url"])
    assert malformed.keys() == {"index", "line", "error"}
    assert misfit.keys() == {"index", "line", "id", "error"}
    assert [(each["index"], each["line"]) for each in (malformed, misfit)] == [(2, 3), (3, 4)]
    assert misfit["id"] == "d"
    for each in (malformed, misfit):
        assert each["error"].keys() == {"code", "message"}


@sentence("jobs-18")
def test_results_before_the_end(long_run: LongRun) -> None:
    """While it runs: the first rows, without a gap, marked as partial; a range of them too."""
    prefix = long_run.answers["prefix"]
    rows = rows_of(prefix)
    assert prefix.headers["x-fyre-partial"] == "true"
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 0
    part = long_run.answers["prefix_range"]
    assert (part.status, part.text) == (206, prefix.text[:10])
    errors = long_run.answers["prefix_errors"]
    assert (errors.status, errors.text, errors.headers["x-fyre-partial"]) == (200, "", "true")


@sentence("jobs-19")
def test_no_results_yet(long_run: LongRun) -> None:
    """A queued job has nothing to show."""
    answer = long_run.answers["queued_output"]
    assert (answer.status, answer.body["error"]["code"]) == (409, "output_not_ready")


@sentence("jobs-20")
def test_all_rows_failed(caller: Caller, jobs: Jobs) -> None:
    """Failed, with an error line for each."""
    job = jobs["all_failed"]
    assert (job["status"], job["error"]["code"]) == ("failed", "all_rows_failed")
    assert len(lines(caller, job["errors_url"])) == 2


@sentence("jobs-21")
def test_too_many_failed(jobs: Jobs) -> None:
    """Two of five, and a fifth was allowed."""
    job = jobs["over_rate"]
    assert (job["status"], job["error"]["code"]) == ("failed", "error_rate_exceeded")


@sentence("jobs-22")
def test_cancel_is_at_once(long_run: LongRun) -> None:
    """Queued and processing."""
    queued = long_run.answers["queued_canceled"]
    assert (queued.status, queued.body["status"]) == (200, "canceled")
    assert long_run.answers["queued_later"].body["progress"]["processed"] == 0
    assert long_run.answers["processing"].body["status"] == "processing"
    assert {(seen.status, seen.body["status"]) for seen in long_run.cancels} == {(200, "canceled")}


@sentence("jobs-23")
def test_canceling_again(long_run: LongRun) -> None:
    """The same job, whoever asked first."""
    again = long_run.answers["queued_canceled_again"]
    assert (again.status, again.body) == (200, long_run.answers["queued_canceled"].body)
    assert len({seen.body["finished"] for seen in long_run.cancels}) == 1


@sentence("jobs-24", "jobs-26")
@pytest.mark.parametrize("name", ["rows", "all_failed"])
def test_what_ended_is_not_canceled(caller: Caller, jobs: Jobs, name: str) -> None:
    """Completed or failed; and it stays what it was."""
    path = f"/jobs/{jobs[name]['id']}"
    error_of(caller.post(f"{path}/cancel"), 409, "job_not_cancelable")
    assert caller.read(path)["status"] == jobs[name]["status"]


@sentence("jobs-25", "jobs-26")
def test_a_canceled_job_counts_nothing_more(long_run: LongRun) -> None:
    """While its neighbour went on, it stood still."""
    first, later = (long_run.answers[name].body for name in ("canceled", "canceled_later"))
    assert later["status"] == "canceled"
    assert later["progress"] == first["progress"]
    assert later["finished"] == first["finished"]


@sentence("jobs-27")
def test_an_unknown_job(org: Organization, other: Organization, jobs: Jobs) -> None:
    """Or a foreign one, byte by byte alike."""
    unknown = other.caller.get("/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    foreign = other.caller.get(f"/jobs/{jobs['rows']['id']}")
    for answer in (unknown, foreign, org.caller.get("/jobs/nonsense")):
        error_of(answer, 404, "job_not_found")
    assert without_request_id(unknown) == without_request_id(foreign)
    assert re.fullmatch(r"job_\w+", jobs["rows"]["id"])
