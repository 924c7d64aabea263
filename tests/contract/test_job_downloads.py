"""`GET /jobs/{id}/output` and `/errors`: the assembled files, and the links that open them without a key."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from fyretoolkit.api.requests import base_url
from fyretoolkit.core.downloads import DownloadKind, sign_download
from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.settings import Settings
from fyretoolkit.store import keys
from fyretoolkit.store.downloads import DownloadSecret
from tests.support.api_bench import Bench, open_bench
from tests.support.batch_jobs import OUTPUT, end_job, post_job

pytestmark = pytest.mark.anyio


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_the_results_can_be_downloaded_where_the_job_says(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
    ended = (await bench.request("GET", f"/jobs/{job['id']}")).json()
    assert (ended["status"], ended["partial"]) == ("completed", False)
    assert ended["output_url"].startswith(f"http://api.localhost/jobs/{job['id']}/output?token=")
    assert ended["expires_at"] == ended["finished"] + bench.services.settings.batch.job_ttl_s
    output = await bench.request("GET", ended["output_url"])
    errors = await bench.request("GET", ended["errors_url"])
    assert (output.status_code, output.content) == (200, OUTPUT)
    assert output.headers["content-type"].startswith("application/jsonl")
    assert (errors.status_code, errors.content) == (200, b"")


async def test_a_part_of_the_results_can_be_downloaded(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
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
        "bytes=0-0,-1", "bytes=0-3, 5-8,",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_a_range_header_that_is_no_range_of_bytes_is_ignored(
    bench: Bench, kind: str, value: str
) -> None:
    """RFC 9110, 14.2: unknown units, invalid ranges and several of them give the whole file."""
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
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
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
    part = await bench.request("GET", f"/jobs/{job['id']}/output", headers={"range": value})
    assert (part.status_code, part.content) == (206, expected)


async def test_head_tells_the_size_of_the_results_without_sending_them(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
    head = await bench.request("HEAD", f"/jobs/{job['id']}/output")
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(OUTPUT)), "bytes")


async def test_a_canceled_job_shows_what_was_done(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.CANCELED)
    ended = (await bench.request("GET", f"/jobs/{job['id']}")).json()
    assert (ended["status"], ended["partial"]) == ("canceled", True)
    assert (await bench.request("GET", ended["output_url"])).content == OUTPUT


@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_there_is_no_output_before_the_end(bench: Bench, kind: str) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    response = await bench.request("GET", f"/jobs/{job['id']}/{kind}")
    assert _code(response) == (409, "output_not_ready")
    assert f"Wait until GET /jobs/{job['id']} shows {kind}" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["output", "errors"])
async def test_a_job_that_ended_before_any_commit_has_a_final_answer(bench: Bench, kind: str) -> None:
    """It said "not ready yet", which clients repeat, for ever."""
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await bench.request("POST", f"/jobs/{job['id']}/cancel")
    assert _code(await bench.request("GET", f"/jobs/{job['id']}/{kind}")) == (409, "no_output")
    assert not CATALOGUE["no_output"].is_retryable


async def test_results_that_were_removed_have_a_final_answer(bench: Bench) -> None:
    await bench.add_model("digits")
    job = (await post_job(bench)).json()
    await end_job(bench, job["id"], JobStatus.COMPLETED)
    (bench.services.settings.jobs_dir / job["id"] / "output.jsonl").unlink()
    assert _code(await bench.request("GET", f"/jobs/{job['id']}/output")) == (409, "no_output")


@pytest.mark.parametrize("host", ["a b", "evil/path", 'x"y', ""])
def test_a_host_that_is_none_does_not_reach_a_url(host: str) -> None:
    """Links are relative then."""
    assert base_url({"headers": [(b"host", host.encode())], "scheme": "http"}) == ""


async def _links(bench: Bench) -> dict[str, str]:
    """The links of a completed job of the demo organization, by their field."""
    await bench.add_model("digits")
    job_id = (await post_job(bench)).json()["id"]
    await end_job(bench, job_id, JobStatus.COMPLETED)
    job = (await bench.request("GET", f"/jobs/{job_id}")).json()
    return {name: job[name] for name in ("output_url", "errors_url")}


async def test_a_link_needs_no_key(bench: Bench) -> None:
    """GET, HEAD and ranges; it says nothing of rate limits, for it is nobody's."""
    links = await _links(bench)
    whole = await bench.request("GET", links["output_url"], key=None)
    assert (whole.status_code, whole.content) == (200, OUTPUT)
    assert "x-ratelimit-limit" not in whole.headers
    with_key = await bench.request("GET", links["output_url"])
    assert "x-ratelimit-limit" in with_key.headers
    part = await bench.request("GET", links["output_url"], key=None, headers={"range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, OUTPUT[5:15])
    assert (await bench.request("HEAD", links["errors_url"], key=None)).status_code == 200


async def test_links_outlive_the_process_that_made_them(bench: Bench) -> None:
    """The secret is kept in Redis, once."""
    links = await _links(bench)
    before = await bench.services.store.read_text(keys.DOWNLOAD_SIGNING)
    another = DownloadSecret(bench.services.store)
    assert (await another.get()).hex() == before
    assert await bench.services.downloads.get() == await another.get()
    assert (await bench.request("GET", links["output_url"], key=None)).status_code == 200


@pytest.mark.parametrize("header", ["Basic broken", "Bearer sk_live_key_none_none"])
async def test_a_key_that_is_given_is_checked_whatever_the_link_says(bench: Bench, header: str) -> None:
    url = (await _links(bench))["output_url"]
    response = await bench.request("GET", url, key=None, headers={"authorization": header})
    assert _code(response) == (401, "invalid_api_key")
    predict_only = await bench.add_key(DEMO_ORG, Scope.PREDICT)
    assert _code(await bench.request("GET", url, key=predict_only)) == (403, "insufficient_scope")
    foreign = await bench.add_key("org_a")
    assert _code(await bench.request("GET", url, key=foreign)) == (404, "job_not_found")


async def test_a_key_makes_up_for_a_link_that_is_not_valid(bench: Bench) -> None:
    path = urlsplit((await _links(bench))["output_url"]).path
    assert (await bench.request("GET", f"{path}?token=nonsense")).status_code == 200


async def test_one_link_cannot_be_asked_without_end(bench: Bench) -> None:
    """No key is counted for it, so its job is; another job's links are not concerned."""
    links = await _links(bench)
    for _ in range(120):
        assert (await bench.request("HEAD", links["output_url"], key=None)).status_code == 200
    for url in links.values():
        refused = await bench.request("GET", url, key=None)
        assert _code(refused) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-ratelimit-limit"] == "120"
    assert (await bench.request("GET", links["output_url"])).status_code == 200, "a key has its own limit"
    other = (await post_job(bench)).json()["id"]
    await end_job(bench, other, JobStatus.COMPLETED)
    url = (await bench.request("GET", f"/jobs/{other}")).json()["output_url"]
    assert (await bench.request("GET", url, key=None)).status_code == 200


async def test_without_key_and_link_it_is_401(bench: Bench) -> None:
    path = urlsplit((await _links(bench))["output_url"]).path
    assert _code(await bench.request("GET", path, key=None)) == (401, "invalid_api_key")


async def test_a_link_opens_one_file_of_one_job_until_it_expires(bench: Bench) -> None:
    """Everything else is one and the same 403, whether or not the job in the path is there."""
    output, errors = (urlsplit(url) for url in (await _links(bench)).values())
    secret = await bench.services.downloads.get()
    job_id = output.path.split("/")[2]
    other = f"job_{'0' * 26}"

    def token(org: str = DEMO_ORG, job: str = job_id, expires: float = time.time() + 60, **more: Any) -> str:
        given = {"kind": DownloadKind.OUTPUT, "secret": secret, **more}
        return f"token={sign_download(org, job, expires=int(expires), **given)}"

    refused = [
        f"{output.path}?{errors.query}",
        f"{errors.path}?{output.query}",
        f"/jobs/{other}/output?{output.query}",
        f"/jobs/nonsense/output?{output.query}",
        f"{output.path}?{output.query}x",
        f"{output.path}?token=",
        f"{output.path}?{token(expires=time.time() - 1)}",
        f"{output.path}?{token(secret=bytes(32))}",
    ]
    answers = [await bench.request("GET", url, key=None, headers={"x-request-id": "same"}) for url in refused]
    assert [_code(answer) for answer in answers] == [(403, "invalid_signature")] * len(refused)
    assert len({answer.content for answer in answers}) == 1
    assert "GET /jobs/{id}" in answers[0].json()["error"]["message"]
    assert (await bench.request("GET", f"{output.path}?{token()}", key=None)).status_code == 200
    assert _code(await bench.request("GET", f"{output.path}?{token(org='org_a')}", key=None)) == (
        404,
        "job_not_found",
    )


async def test_links_lead_to_where_the_operator_says_the_api_is(settings: Settings) -> None:
    async with open_bench(settings.model_copy(update={"public_url": "https://api.example"})) as bench:
        links = await _links(bench)
        assert links["output_url"].startswith("https://api.example/jobs/job_")
        path = links["output_url"].removeprefix("https://api.example")
        assert (await bench.request("GET", path, key=None)).content == OUTPUT
