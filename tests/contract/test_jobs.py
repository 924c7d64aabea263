"""`POST /batch/{model_id}` and `/jobs`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.schemas.metadata import MAX_BYTES
from fyretoolkit.store import keys
from tests.support.api_bench import Bench
from tests.support.batch_jobs import INPUT, ROWS, commit, end_job, post_job, start_job, stored_job

pytestmark = pytest.mark.anyio


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_a_job_is_accepted_as_queued(bench: Bench) -> None:
    model = await bench.add_model("digits")
    response = await post_job(bench, metadata={"team": "a"}, webhook="https://hooks.example/x")
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
    """In the answer to its creation, alone and in the list; nothing once it left the queue.

    Over all organizations: another's first job is in front of this one's second.
    """
    await bench.add_model("digits")
    created = [(await post_job(bench)).json() for _ in range(4)]
    assert [job["queue_position"] for job in created] == [1, 2, 3, 4]
    foreign = await bench.request(
        "POST", "/batch/digits", key=await bench.add_key("org_a"), json={"input_url": INPUT}
    )
    assert foreign.json()["queue_position"] in (1, 2)
    names = [job["id"] for job in created]
    await bench.services.jobs.claim_run(DEMO_ORG, names[0], lease_s=10)
    await bench.request("POST", f"/jobs/{names[2]}/cancel")
    positions = [(await bench.request("GET", f"/jobs/{name}")).json()["queue_position"] for name in names]
    assert positions == [None, 2, None, 3]
    listed = (await bench.request("GET", "/jobs")).json()["data"]
    assert [job["queue_position"] for job in listed] == positions[::-1]


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
    response = await post_job(bench, **fields)
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
    response = await post_job(bench, **fields)
    assert _code(response) == (422, "url_not_allowed")
    error = response.json()["error"]
    assert [field["path"] for field in error["details"]["fields"]] == list(fields)
    assert error["message"].startswith(f"{next(iter(fields))}: ")


@pytest.mark.parametrize("webhook", ["file:///tmp/x", "ftp://a.example/x"])
async def test_a_refused_webhook_is_not_told_that_files_are_allowed(bench: Bench, webhook: str) -> None:
    """The message listed file among the schemes, and file was then refused."""
    await bench.add_model("digits")
    reason, _, allowed = (
        (await post_job(bench, webhook=webhook)).json()["error"]["message"].partition("Allowed: ")
    )
    assert "file" not in allowed
    assert "not one of" not in reason


async def test_whole_numbers_are_rates_too(bench: Bench) -> None:
    await bench.add_model("digits")
    assert (await post_job(bench, max_error_rate=0)).status_code == 202


async def test_metadata_is_bounded_in_size(bench: Bench) -> None:
    """Four jobs with 15 MiB each were accepted; what is stored with a job is echoed with every page."""
    await bench.add_model("digits")
    largest = {"a": "x" * (MAX_BYTES - len('{"a":""}'))}
    assert (await post_job(bench, metadata=largest)).status_code == 202
    response = await post_job(bench, metadata={"a": largest["a"] + "x"})
    assert _code(response) == (400, "invalid_request")
    assert f"at most {MAX_BYTES} bytes" in response.json()["error"]["message"]


async def test_an_unknown_model_is_404(bench: Bench) -> None:
    assert _code(await post_job(bench)) == (404, "model_not_found")


async def test_a_model_without_an_artifact_is_409(bench: Bench) -> None:
    await bench.add_model("digits")
    await bench.services.store.redis.hset(keys.model(PUBLIC_ORG, "digits"), "status", "training")
    assert _code(await post_job(bench)) == (409, "model_not_ready")


async def test_jobs_are_listed_newest_first(bench: Bench) -> None:
    await bench.add_model("digits")
    names = [(await post_job(bench)).json()["id"] for _ in range(3)]
    page = (await bench.request("GET", "/jobs?limit=2")).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([names[2], names[1]], True)


async def test_canceling_is_immediate_and_repeatable(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    answers = [await bench.request("POST", f"/jobs/{job['id']}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["status"] == "canceled"
    assert answers[0].json()["finished"] is not None


async def test_a_job_that_is_processed_is_canceled_with_what_it_has(bench: Bench) -> None:
    """Its run is fenced off, its links are there at once, and canceling again answers the same."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0)
    first, again = [await bench.request("POST", f"/jobs/{job_id}/cancel") for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    canceled = JobResource.model_validate(first.json())
    assert (canceled.status, canceled.partial, canceled.queue_position) == ("canceled", True, None)
    assert canceled.output_url
    assert canceled.errors_url
    assert canceled.progress.processed == ROWS
    links = {"output_url", "errors_url"}  # made anew for each answer
    assert canceled.model_dump(exclude=links) == JobResource.model_validate(again.json()).model_dump(
        exclude=links
    )
    assert not await bench.services.jobs.renew(DEMO_ORG, job_id, 1, 60)


async def test_whoever_ends_a_job_first_decides(bench: Bench) -> None:
    """A cancel and the run's own end at once, twenty times: one of the two holds and both are told which."""
    await bench.add_model("digits")
    for _ in range(20):
        job_id = (await post_job(bench)).json()["id"]
        await bench.services.jobs.claim_run(DEMO_ORG, job_id, lease_s=10)
        job = await stored_job(bench, job_id)
        answer, status = await asyncio.gather(
            bench.request("POST", f"/jobs/{job_id}/cancel"),
            bench.services.jobs.finish(job, JobStatus.COMPLETED, epoch=1),
        )
        assert (await stored_job(bench, job_id)).status is status
        assert answer.status_code == (200 if status is JobStatus.CANCELED else 409)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
async def test_a_job_that_ended_cannot_be_canceled(bench: Bench, status: JobStatus) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], status)
    assert _code(await bench.request("POST", f"/jobs/{job['id']}/cancel")) == (409, "job_not_cancelable")


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("GET", "/output"), ("GET", "/errors"), ("POST", "/cancel")]
)
async def test_another_organizations_job_is_unknown(bench: Bench, method: str, suffix: str) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
    key = await bench.add_key("org_a")
    same_id = {"x-request-id": "same"}
    foreign = await bench.request(method, f"/jobs/{job['id']}{suffix}", key=key, headers=same_id)
    unknown = await bench.request(
        method, f"/jobs/job_01M82CZBDNTDTBGWDT4TW34HQ4{suffix}", key=key, headers=same_id
    )
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
