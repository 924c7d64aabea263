"""`POST /jobs/{id}/retry`: which jobs may be retried, and what the new job takes from the first."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG
from fyretoolkit.schemas.jobs import JobResource
from fyretoolkit.store import keys
from tests.support.api_bench import Bench
from tests.support.batch_jobs import INPUT, commit, start_job, stored_job
from tests.support.sentences import sentence

pytestmark = pytest.mark.anyio

KEPT = {"failed_rows": {"rows": "failed-rows-1", "numbers": "failed-rows-1.numbers", "count": 1}}


async def ended(bench: Bench, status: JobStatus = JobStatus.COMPLETED, **fields: Any) -> str:
    """A job that ended with one shard, in which one of three rows failed, and that kept it."""
    job_id = await start_job(bench, **fields)
    await commit(bench, job_id, 0)
    job = await stored_job(bench, job_id)
    assert await bench.services.jobs.finish(job, status, output=KEPT) is status
    return job_id


async def retry(bench: Bench, job_id: str, **body: Any) -> Any:
    """One `POST /jobs/{id}/retry` with the demo key."""
    return await bench.request("POST", f"/jobs/{job_id}/retry", json=body)


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@sentence("jobs-28", "jobs-30")
@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED])
async def test_a_retry_is_a_job_like_the_first(bench: Bench, status: JobStatus) -> None:
    """Without a body: queued, with everything but the error rate of the first; the model as it was, archived or not."""
    given = {
        "webhook": "https://hooks.example/x",
        "output_format": "csv",
        "metadata": {"a": 1},
        "timeout_s": 60,
    }
    parent_id = await ended(bench, status, max_error_rate=0.5, **given)
    await bench.services.store.redis.hset(keys.model(PUBLIC_ORG, "digits"), "status", "archived")
    response = await bench.request("POST", f"/jobs/{parent_id}/retry")
    job = JobResource.model_validate(response.json())
    assert (response.status_code, response.headers["location"]) == (202, f"/jobs/{job.id}")
    assert (job.status, job.model, job.input_url, job.retry_of) == ("queued", "digits", INPUT, parent_id)
    assert (job.webhook, job.output_format, job.metadata) == (given["webhook"], "csv", {"a": 1})
    parent, child = await stored_job(bench, parent_id), await stored_job(bench, job.id)
    assert (child.artifact, child.spec, child.timeout_s) == (parent.artifact, parent.spec, 60)
    assert (child.max_error_rate, child.epoch, child.output, child.plan) == (1.0, 0, None, None)
    read = (await bench.request("GET", f"/jobs/{job.id}")).json()
    assert read == response.json()


@sentence("jobs-30")
async def test_what_the_body_names_is_the_retrys_own(bench: Bench) -> None:
    """Null is a value too."""
    parent_id = await ended(bench, webhook="https://hooks.example/x", metadata={"a": 1}, timeout_s=60)
    body = {"webhook": None, "metadata": None, "timeout_s": 5, "output_format": "csv", "max_error_rate": 0.25}
    child = await stored_job(bench, (await retry(bench, parent_id, **body)).json()["id"])
    assert (child.webhook, child.metadata, child.timeout_s) == (None, None, 5)
    assert (child.output_format, child.max_error_rate) == ("csv", 0.25)


@sentence("jobs-30")
async def test_an_idempotency_key_makes_one_retry(bench: Bench) -> None:
    """Sixteen at once: one job and sixteen equal answers; with another body it is refused."""
    parent_id = await ended(bench)
    answers = await asyncio.gather(*(retry(bench, parent_id, idempotency_key="k") for _ in range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await bench.request("GET", "/jobs")).json()["data"]) == 2
    reused = await retry(bench, parent_id, idempotency_key="k", output_format="csv")
    assert _code(reused) == (409, "idempotency_key_reused")


@sentence("jobs-31")
async def test_a_job_that_has_not_ended_is_not_retried(bench: Bench) -> None:
    """Queued, processing, or ended a moment ago, when the failed rows are not put aside yet."""
    job_id = await start_job(bench)
    assert _code(await retry(bench, job_id)) == (409, "job_not_retryable")
    await commit(bench, job_id, 0)
    assert _code(await retry(bench, job_id)) == (409, "job_not_retryable")
    await bench.request("POST", f"/jobs/{job_id}/cancel")
    assert _code(await retry(bench, job_id)) == (409, "job_not_retryable")
    await bench.services.jobs.set_output(DEMO_ORG, job_id, KEPT)
    assert (await retry(bench, job_id)).status_code == 202


@sentence("jobs-31")
async def test_a_job_whose_output_found_no_room_is_not_retried_in_a_moment(bench: Bench) -> None:
    """A minute behind its end nobody is told to wait: the message says who can help, and what else can be done."""
    job_id = await start_job(bench)
    await commit(bench, job_id, 0)
    await bench.request("POST", f"/jobs/{job_id}/cancel")
    early = (await retry(bench, job_id)).json()["error"]["message"]
    assert "in a moment" in early
    minute_ago = str(int(time.time()) - 61)
    await bench.services.store.redis.hset(keys.job(DEMO_ORG, job_id), "finished", minute_ago)
    response = await retry(bench, job_id)
    assert _code(response) == (409, "job_not_retryable")
    message = response.json()["error"]["message"]
    assert "operator" in message
    assert "POST /batch/digits" in message
    assert "in a moment" not in message


@sentence("jobs-31")
async def test_a_job_without_a_failed_row_has_nothing_to_retry(bench: Bench) -> None:
    """One that failed before it read a row neither."""
    job_id = await start_job(bench)
    await bench.services.jobs.finish(await stored_job(bench, job_id), JobStatus.FAILED)
    assert _code(await retry(bench, job_id)) == (409, "nothing_to_retry")


@sentence("jobs-31")
async def test_rows_that_were_not_kept_are_not_retried(bench: Bench) -> None:
    """The input was changed before; the message says what to do."""
    job_id = await ended(bench)
    await bench.services.store.redis.hset(keys.job(DEMO_ORG, job_id), "output", "{}")
    response = await retry(bench, job_id)
    assert _code(response) == (409, "job_not_retryable")
    assert "POST /batch/digits" in response.json()["error"]["message"]


async def test_a_webhook_that_may_not_be_called_is_422(bench: Bench) -> None:
    response = await retry(bench, await ended(bench), webhook="http://10.0.0.1/x")
    assert _code(response) == (422, "url_not_allowed")


async def test_another_organizations_job_is_unknown_to_a_retry(bench: Bench) -> None:
    key = await bench.add_key("org_a")
    response = await bench.request("POST", f"/jobs/{await ended(bench)}/retry", key=key)
    assert _code(response) == (404, "job_not_found")
