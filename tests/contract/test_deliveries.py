"""`/jobs/{id}/deliveries` and `/webhook_secret`, over real deliveries to a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fyretoolkit.control import webhooks
from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.core.organizations import Scope
from fyretoolkit.serving.exposition import NoGauges
from fyretoolkit.settings import Settings
from tests.support.api_bench import Bench, until
from tests.support.receivers import Receivers, receiving
from tests.support.sentences import sentence

pytestmark = pytest.mark.anyio

UNKNOWN_JOB = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"
UNKNOWN = "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"
FIELDS = {
    "id", "object", "job", "type", "url", "status", "reason", "created", "delivered_at", "next_attempt_at", "attempts",
}  # fmt: skip


@asynccontextmanager
async def sending(bench: Bench) -> AsyncIterator[None]:
    """While a sender runs over the bench's store."""
    task = asyncio.create_task(WebhookSender(bench.services.settings, bench.services.store, NoGauges()).run())
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two attempts, one soon after the other."""
    monkeypatch.setattr(webhooks, "_LOOK_S", 0.05)
    hooks = settings.webhooks.model_copy(update={"pauses_s": (0.05,), "timeout_s": 5.0})
    return settings.model_copy(update={"webhooks": hooks})


async def canceled(bench: Bench, url: str | None, *, key: str | None = None) -> str:
    """The id of a job with this webhook that was canceled at once."""
    options = {"key": key} if key else {}
    body = {"input_url": "https://a.example/in.jsonl", "webhook": url}
    made = await bench.request("POST", "/batch/digits", json=body, **options)
    assert made.status_code == 202, made.text
    name = str(made.json()["id"])
    assert (await bench.request("POST", f"/jobs/{name}/cancel", **options)).status_code == 200
    return name


async def deliveries(bench: Bench, job: str, **query: Any) -> dict[str, Any]:
    """A page of those of a job."""
    answer = await bench.request("GET", f"/jobs/{job}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def settled(bench: Bench, job: str) -> dict[str, Any]:
    """The one of a job once it is not pending."""

    async def is_settled() -> bool:
        return bool((await deliveries(bench, job))["data"][0]["status"] != "pending")

    await until(is_settled)
    found: dict[str, Any] = (await deliveries(bench, job))["data"][0]
    return found


@pytest.fixture
async def receivers(bench: Bench) -> AsyncIterator[Receivers]:
    """Of three kinds; the model is there."""
    await bench.add_model("digits")
    with receiving("ok", "redirect", "gone") as opened:
        yield opened


@sentence("webhooks-6", "webhooks-8")
async def test_a_delivery_shows_what_was_tried(bench: Bench, receivers: Receivers) -> None:
    """Delivered, given up, unwanted: every field, and the attempts that led there."""
    async with sending(bench):
        jobs = {kind: await canceled(bench, url) for kind, url in receivers.urls.items()}
        found = {kind: await settled(bench, job) for kind, job in jobs.items()}
    for kind, each in found.items():
        assert each.keys() == FIELDS
        assert (each["object"], each["job"], each["type"]) == ("delivery", jobs[kind], "batch.canceled")
        assert each["url"] == receivers.urls[kind]
        assert each["next_attempt_at"] is None
        assert all(tried["at"] >= each["created"] for tried in each["attempts"])
        assert {received.id for received in receivers.of(kind)} == {each["id"]}
    states = {kind: (each["status"], each["reason"]) for kind, each in found.items()}
    assert states == {
        "ok": ("delivered", None), "redirect": ("exhausted", "schedule_ended"), "gone": ("exhausted", "gone"),
    }  # fmt: skip
    codes = {kind: [tried["status_code"] for tried in each["attempts"]] for kind, each in found.items()}
    assert codes == {"ok": [204], "redirect": [302, 302], "gone": [410]}
    assert found["ok"]["delivered_at"] >= found["ok"]["created"]
    assert found["gone"]["delivered_at"] is None


@sentence("webhooks-6")
@pytest.mark.parametrize("kind", ["ok", "gone"])
async def test_redelivery_sends_again_under_the_same_id(
    bench: Bench, receivers: Receivers, kind: str
) -> None:
    """Whether it was delivered or not; the log goes on; the job stays as it is."""
    async with sending(bench):
        job = await canceled(bench, receivers.urls[kind])
        before = await settled(bench, job)
        shown = (await bench.request("GET", f"/jobs/{job}")).json()
        again = await bench.request("POST", f"/jobs/{job}/deliveries/{before['id']}/redeliver")
        assert (again.status_code, again.json()["status"], again.json()["id"]) == (
            200,
            "pending",
            before["id"],
        )
        after = await settled(bench, job)
    assert [received.id for received in receivers.of(kind)] == [before["id"]] * 2
    assert after["attempts"][:1] == before["attempts"]
    assert len(after["attempts"]) == 2
    assert (await bench.request("GET", f"/jobs/{job}")).json() == shown


@sentence("webhooks-6")
async def test_a_page_of_deliveries(bench: Bench, receivers: Receivers) -> None:
    """As every list: a job has one, one without a webhook or that has not ended none."""
    job = await canceled(bench, receivers.urls["ok"])
    page = await deliveries(bench, job, limit=1)
    assert (page["object"], len(page["data"]), page["has_more"]) == ("list", 1, False)
    assert page["data"][0]["attempts"] == []
    behind = await deliveries(bench, job, starting_after=page["data"][0]["id"])
    assert (behind["data"], behind["has_more"]) == ([], False)
    assert (await deliveries(bench, await canceled(bench, None)))["data"] == []
    for query in ({"limit": 0}, {"starting_after": job}, {"status": "x"}):
        refused = await bench.request("GET", f"/jobs/{job}/deliveries", params=query)
        assert refused.status_code == 400


@sentence("webhooks-13")
async def test_an_unknown_or_foreign_job_or_delivery_is_404(bench: Bench, receivers: Receivers) -> None:
    """Also one of another job of the same organization."""
    job, other = [await canceled(bench, receivers.urls["ok"]) for _ in range(2)]
    (delivery,) = (await deliveries(bench, job))["data"]
    stranger = await bench.add_key("org_b")
    path = f"/jobs/{job}/deliveries"
    for key, method, target, code in (
        (None, "GET", f"/jobs/{UNKNOWN_JOB}/deliveries", "job_not_found"),
        (None, "GET", "/jobs/x*/deliveries", "job_not_found"),
        (stranger, "GET", path, "job_not_found"),
        (stranger, "POST", f"{path}/{delivery['id']}/redeliver", "job_not_found"),
        (None, "POST", f"{path}/{UNKNOWN}/redeliver", "delivery_not_found"),
        (None, "POST", f"{path}/x*/redeliver", "delivery_not_found"),
        (None, "POST", f"/jobs/{other}/deliveries/{delivery['id']}/redeliver", "delivery_not_found"),
    ):
        options = {"key": key} if key else {}
        answer = await bench.request(method, target, **options)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code), target


@sentence("webhooks-10")
async def test_scopes(bench: Bench, receivers: Receivers) -> None:
    """The secret is an admin's alone, to read it and to rotate it."""
    job = await canceled(bench, receivers.urls["ok"])
    (delivery,) = (await deliveries(bench, job))["data"]
    others = {scope: await bench.add_key("org_demo", scope) for scope in Scope}
    for method, path, needed in (
        ("GET", f"/jobs/{job}/deliveries", Scope.READ),
        ("POST", f"/jobs/{job}/deliveries/{delivery['id']}/redeliver", Scope.WRITE),
        ("GET", "/webhook_secret", Scope.ADMIN),
        ("POST", "/webhook_secret/rotate", Scope.ADMIN),
    ):
        for scope, key in others.items():
            status = (await bench.request(method, path, key=key)).status_code
            assert status == (200 if scope is needed else 403), (method, path, scope)


@sentence("webhooks-3")
async def test_the_secret_is_there_when_it_is_asked_for(bench: Bench) -> None:
    """The same each time, another one for another organization, kept by no cache."""
    first = await bench.request("GET", "/webhook_secret")
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-store"
    body = first.json()
    assert body.keys() == {"object", "secret", "created", "replaced"}
    assert (body["object"], body["replaced"]) == ("webhook_secret", [])
    assert body["secret"].startswith("whsec_")
    assert (await bench.request("GET", "/webhook_secret")).json() == body
    other = await bench.request("GET", "/webhook_secret", key=await bench.add_key("org_b"))
    assert other.json()["secret"] != body["secret"]


@sentence("webhooks-9")
async def test_a_rotated_secret_shows_until_when_the_old_one_signs(bench: Bench) -> None:
    """A day unless another overlap is named; with 0 there is no old one; outside its bounds → 400."""
    old = (await bench.request("GET", "/webhook_secret")).json()
    rotated = await bench.request("POST", "/webhook_secret/rotate")
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    new = rotated.json()
    assert new["secret"] != old["secret"]
    assert new["replaced"] == [{"created": old["created"], "expires_at": new["created"] + 86_400}]
    assert old["secret"] not in rotated.text
    assert (await bench.request("GET", "/webhook_secret")).json() == new
    last = await bench.request("POST", "/webhook_secret/rotate", json={"overlap_s": 0})
    assert last.json()["replaced"] == []
    for body in ({"overlap_s": -1}, {"overlap_s": 604_801}, {"overlap_s": 1.5}, {"overlap": 1}):
        refused = await bench.request("POST", "/webhook_secret/rotate", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
