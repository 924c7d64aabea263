"""`POST /batch/{model_id}` and `/jobs`."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.schemas.metadata import MAX_BYTES
from fyretoolkit.store import keys
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

INPUT = "https://data.example/rows.jsonl"
OUTPUT = b'{"index":0,"result":{"label":"positive"}}\n{"index":1,"result":{"label":"negative"}}\n'


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def _create(bench: Bench, **fields: Any) -> Any:
    return await bench.request("POST", "/batch/digits", json={"input_url": INPUT, **fields})


async def _end(bench: Bench, job_id: str, status: JobStatus, *, is_partial: bool = False) -> None:
    """Brings a job to its end with two results and no error line."""
    jobs = bench.services.jobs
    await jobs.claim_run(DEMO_ORG, job_id, lease_s=10)
    folder = bench.services.settings.jobs_dir / job_id
    folder.mkdir(parents=True)
    (folder / "output.jsonl").write_bytes(OUTPUT)
    (folder / "errors.jsonl").write_bytes(b"")
    files = {name: {"name": f"{file}.jsonl"} for name, file in (("results", "output"), ("errors", "errors"))}
    job = await jobs.get(DEMO_ORG, job_id)
    assert job is not None
    assert await jobs.finish(job, status, output={**files, "partial": is_partial}) is status


async def test_a_job_is_accepted_as_queued(bench: Bench) -> None:
    model = await bench.add_model("digits")
    response = await _create(bench, metadata={"team": "a"}, webhook="https://hooks.example/x")
    job = JobResource.model_validate(response.json())
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job.id}"
    assert (job.status, job.model, job.input_url) == ("queued", "digits", INPUT)
    assert job.progress.model_dump() == {"processed": 0, "total": None, "succeeded": 0, "failed": 0}
    assert (job.output_url, job.errors_url, job.partial) == (None, None, False)
    assert (job.metadata, job.webhook) == ({"team": "a"}, "https://hooks.example/x")
    stored = await bench.services.jobs.get(DEMO_ORG, job.id)
    assert stored is not None
    assert (stored.artifact, stored.spec) == (model.artifact, model.spec)


async def test_a_job_says_how_many_are_before_it(bench: Bench) -> None:
    await bench.add_model("digits")
    names = [(await _create(bench)).json()["id"] for _ in range(3)]
    positions = [(await bench.request("GET", f"/jobs/{name}")).json()["queue_position"] for name in names]
    assert positions == [1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"input_url": None}, "input_url"),
        ({"input_url": ""}, "input_url"),
        ({"webhook": 1}, "webhook"),
        ({"output_format": "xml"}, "output_format"),
        ({"max_error_rate": 1.1}, "max_error_rate"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"metadata": "text"}, "metadata"),
        ({"max_error_rate": True}, "max_error_rate"),
        ({"max_error_rate": "0.5"}, "max_error_rate"),
    ],
)
async def test_a_field_that_does_not_fit_is_400_and_named(
    bench: Bench, fields: dict[str, Any], path: str
) -> None:
    response = await _create(bench, **fields)
    assert _code(response) == (400, "invalid_request")
    assert [field["path"] for field in response.json()["error"]["details"]["fields"]] == [path]


@pytest.mark.parametrize(
    "fields",
    [
        {"input_url": "s3://bucket/rows.csv"},
        {"input_url": "file:///etc/passwd"},
        {"input_url": "http://169.254.169.254/rows.csv"},
        {"input_url": "nonsense"},
        {"webhook": "file:///tmp/x"},
        {"webhook": "http://10.0.0.1/x"},
    ],
)
async def test_an_address_that_may_not_be_fetched_is_422(bench: Bench, fields: dict[str, str]) -> None:
    await bench.add_model("digits")
    response = await _create(bench, **fields)
    assert _code(response) == (422, "url_not_allowed")
    error = response.json()["error"]
    assert [field["path"] for field in error["details"]["fields"]] == list(fields)
    assert error["message"].startswith(f"{next(iter(fields))}: ")


@pytest.mark.parametrize("webhook", ["file:///tmp/x", "ftp://a.example/x"])
async def test_a_refused_webhook_is_not_told_that_files_are_allowed(bench: Bench, webhook: str) -> None:
    """The message listed file among the schemes, and file was then refused."""
    await bench.add_model("digits")
    reason, _, allowed = (
        (await _create(bench, webhook=webhook)).json()["error"]["message"].partition("Allowed: ")
    )
    assert "file" not in allowed
    assert "not one of" not in reason


async def test_whole_numbers_are_rates_too(bench: Bench) -> None:
    await bench.add_model("digits")
    assert (await _create(bench, max_error_rate=0)).status_code == 202


async def test_metadata_is_bounded_in_size(bench: Bench) -> None:
    """Four jobs with 15 MiB each were accepted; what is stored with a job is echoed with every page."""
    await bench.add_model("digits")
    largest = {"a": "x" * (MAX_BYTES - len('{"a":""}'))}
    assert (await _create(bench, metadata=largest)).status_code == 202
    response = await _create(bench, metadata={"a": largest["a"] + "x"})
    assert _code(response) == (400, "invalid_request")
    assert f"at most {MAX_BYTES} bytes" in response.json()["error"]["message"]


async def test_an_unknown_model_is_404(bench: Bench) -> None:
    assert _code(await _create(bench)) == (404, "model_not_found")


async def test_a_model_without_an_artifact_is_409(bench: Bench) -> None:
    await bench.add_model("digits")
    await bench.services.store.redis.hset(keys.model(PUBLIC_ORG, "digits"), "status", "training")
    assert _code(await _create(bench)) == (409, "model_not_ready")


async def test_jobs_are_listed_newest_first(bench: Bench) -> None:
    await bench.add_model("digits")
    names = [(await _create(bench)).json()["id"] for _ in range(3)]
    page = (await bench.request("GET", "/jobs?limit=2")).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([names[2], names[1]], True)


async def test_canceling_is_immediate_and_repeatable(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    answers = [await bench.request("POST", f"/jobs/{job['id']}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["status"] == "canceled"
    assert answers[0].json()["finished"] is not None


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
async def test_a_job_that_ended_cannot_be_canceled(bench: Bench, status: JobStatus) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], status)
    assert _code(await bench.request("POST", f"/jobs/{job['id']}/cancel")) == (409, "job_not_cancelable")


async def test_the_results_can_be_downloaded_where_the_job_says(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    ended = (await bench.request("GET", f"/jobs/{job['id']}")).json()
    assert (ended["status"], ended["partial"]) == ("completed", False)
    assert ended["output_url"] == f"http://api.test/jobs/{job['id']}/output"
    assert ended["expires_at"] == ended["finished"] + bench.services.settings.batch.job_ttl_s
    output = await bench.request("GET", ended["output_url"])
    errors = await bench.request("GET", ended["errors_url"])
    assert (output.status_code, output.content) == (200, OUTPUT)
    assert output.headers["content-type"].startswith("application/jsonl")
    assert (errors.status_code, errors.content) == (200, b"")


async def test_a_part_of_the_results_can_be_downloaded(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    path = f"/jobs/{job['id']}/output"
    part = await bench.request("GET", path, headers={"range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, OUTPUT[5:15])
    beyond = await bench.request("GET", path, headers={"range": "bytes=1000-"})
    assert _code(beyond) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(OUTPUT)}"


@pytest.mark.parametrize(
    "value",
    [
        "items=0-3", "lines=1", "bytes=abc", "0-3", "bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,x", "bytes=0-1,5-3",
        "bytes=0--1", "bytes=0-1" + ",   " * 1000 + "x", "bytes=" + "9" * 5000 + "-", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_a_range_header_that_is_no_range_of_bytes_is_ignored(
    bench: Bench, kind: str, value: str
) -> None:
    """RFC 9110, 14.2: unknown units and invalid ranges give the whole file; they were refused with 400."""
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    response = await bench.request("GET", f"/jobs/{job['id']}/{kind}", headers={"range": value})
    assert (response.status_code, response.content) == (200, OUTPUT if kind == "output" else b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", OUTPUT[:1]),
        ("Bytes=80-", OUTPUT[80:]),
        ("bytes=-5", OUTPUT[-5:]),
        ("bytes= 0-3", OUTPUT[:4]),
    ],
)
async def test_every_spelling_of_a_range_of_bytes_is_honoured(
    bench: Bench, value: str, expected: bytes
) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    part = await bench.request("GET", f"/jobs/{job['id']}/output", headers={"range": value})
    assert (part.status_code, part.content) == (206, expected)


async def test_head_tells_the_size_of_the_results_without_sending_them(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    head = await bench.request("HEAD", f"/jobs/{job['id']}/output")
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(OUTPUT)), "bytes")


async def test_a_canceled_job_shows_what_was_done(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.CANCELED, is_partial=True)
    ended = (await bench.request("GET", f"/jobs/{job['id']}")).json()
    assert (ended["status"], ended["partial"]) == ("canceled", True)
    assert (await bench.request("GET", ended["output_url"])).content == OUTPUT


@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_there_is_no_output_before_the_end(bench: Bench, kind: str) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    response = await bench.request("GET", f"/jobs/{job['id']}/{kind}")
    assert _code(response) == (409, "output_not_ready")
    assert f"Wait until GET /jobs/{job['id']} shows {kind}" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_a_job_that_ended_before_any_commit_has_a_final_answer(bench: Bench, kind: str) -> None:
    """It said "not ready yet", which clients repeat, for ever."""
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await bench.request("POST", f"/jobs/{job['id']}/cancel")
    assert _code(await bench.request("GET", f"/jobs/{job['id']}/{kind}")) == (409, "no_output")
    assert not CATALOGUE["no_output"].is_retryable


async def test_results_that_are_still_put_together_after_the_end_are_worth_waiting_for(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await bench.request("POST", f"/jobs/{job['id']}/cancel")
    await bench.services.store.redis.hset(keys.job(DEMO_ORG, job["id"]), "succeeded", "2")
    assert _code(await bench.request("GET", f"/jobs/{job['id']}/output")) == (409, "output_not_ready")


async def test_results_that_were_removed_have_a_final_answer(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    (bench.services.settings.jobs_dir / job["id"] / "output.jsonl").unlink()
    assert _code(await bench.request("GET", f"/jobs/{job['id']}/output")) == (409, "no_output")


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("GET", "/output"), ("GET", "/errors"), ("POST", "/cancel")]
)
async def test_another_organizations_job_is_unknown(bench: Bench, method: str, suffix: str) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    key = await bench.add_key("org_a")
    same_id = {"x-request-id": "same"}
    foreign = await bench.request(method, f"/jobs/{job['id']}{suffix}", key=key, headers=same_id)
    unknown = await bench.request(
        method, f"/jobs/job_01M82CZBDNTDTBGWDT4TW34HQ4{suffix}", key=key, headers=same_id
    )
    assert (foreign.status_code, foreign.content) == (404, unknown.content)


@pytest.mark.parametrize("host", ["a b", "evil/path", 'x"y', ""])
async def test_a_host_that_is_none_does_not_reach_a_url(bench: Bench, host: str) -> None:
    await bench.add_model("digits")
    job = (await _create(bench)).json()
    await _end(bench, job["id"], JobStatus.COMPLETED)
    found = await bench.request("GET", f"/jobs/{job['id']}", headers=[(b"host", host.encode())])
    assert found.json()["output_url"] == f"/jobs/{job['id']}/output"
