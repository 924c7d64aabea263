"""The sender of webhooks over a real store, to real receivers; what arrives is verified by the standard's library."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from fyretoolkit.control import webhooks
from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.core.exposition import SERIES
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import DeliveryStatus, JobStatus
from fyretoolkit.core.webhooks import Attempt, Delivery, EndReason, Verdict, iso_time
from fyretoolkit.settings import PROJECT_ROOT, Settings
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deliveries import Claim, DeliveryStore, Silence
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.webhook_secrets import WebhookSecretStore
from tests.support.api_bench import until
from tests.support.lossy_redis import lossy
from tests.support.platform import free_port
from tests.support.receivers import WILLING, receiving
from tests.support.sentences import sentence

pytestmark = pytest.mark.anyio

PAUSES_S = (0.05, 0.05, 0.05)


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@dataclass
class Bench:
    """A store, its repositories, and what a scraper is shown."""

    store: Store
    settings: Settings
    shown: dict[tuple[str, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.store, 1000)
        self.deliveries = DeliveryStore(self.store)
        self.secrets = WebhookSecretStore(self.store)

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """As an exporter keeps it."""
        assert tuple(labels) == SERIES[name].labels
        self.shown[name, *labels.values()] = value

    def sender(self, **hooks: Any) -> WebhookSender:
        """One that tries again soon, and has time for an answer."""
        section = {"pauses_s": PAUSES_S, "timeout_s": 30, "jitter": 0, "max_retry_after_s": 0.1, **hooks}
        settings = Settings.model_validate({**self.settings.model_dump(), "webhooks": section})
        return WebhookSender(settings, self.store, self)

    @asynccontextmanager
    async def sending(self, **hooks: Any) -> AsyncIterator[None]:
        """While a sender runs."""
        task = asyncio.create_task(self.sender(**hooks).run())
        try:
            yield
        finally:
            await _end(task)

    async def ended(
        self, url: str, status: JobStatus = JobStatus.CANCELED, *, org: str = "org_a", **values: Any
    ) -> BatchJob:
        """A job with a webhook that ended so, with a row that was done."""
        fields = {"succeeded": 1, "created": 1, "input_url": "file:///in.jsonl", **values}
        job = BatchJob(
            id=new_id("job"),
            org=org,
            status=JobStatus.QUEUED,
            model="m",
            artifact="a" * 64,
            spec={},
            webhook=url,
            **fields,
        )
        await self.jobs.create(job)
        epoch = await self.jobs.claim_run(job.org, job.id, lease_s=60)
        assert await self.jobs.finish(job, status, epoch=epoch) is status
        return job

    async def delivery(self, job: BatchJob) -> Delivery:
        """The one of a job."""
        (found,) = await self.deliveries.page(job.org, job.id, 10)
        return found

    async def settled(self, *jobs: BatchJob) -> list[Delivery]:
        """Their deliveries once none of them is pending."""

        async def are_settled() -> bool:
            found = [await self.delivery(job) for job in jobs]
            return all(each.status is not DeliveryStatus.PENDING for each in found)

        await until(are_settled)
        return [await self.delivery(job) for job in jobs]


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel until it has ended: redis-py swallows a cancellation that comes while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


@pytest.fixture
async def bench(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(webhooks, "_LOOK_S", 0.05)
    store = Store(redis_url)
    yield Bench(store, Settings.model_validate({"home": tmp_path, "redis_url": redis_url}))
    await store.close()


@sentence("webhooks-1", "webhooks-2", "webhooks-7")
@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED])
async def test_the_end_of_a_job_arrives_signed(bench: Bench, status: JobStatus) -> None:
    """Verified by the library; the job is in it as it stands, with links; and it is as it was."""
    with receiving("ok") as receivers:
        async with bench.sending():
            job = await bench.ended(receivers.urls["ok"], status, metadata={"team": "søk"})
            before = await bench.jobs.get(job.org, job.id)
            (delivery,) = await bench.settled(job)
    (received,) = receivers.received
    event = received.verified((await bench.secrets.get(job.org)).secret)
    assert before is not None
    assert before.finished is not None
    assert (event["type"], event["timestamp"]) == (f"batch.{status}", iso_time(before.finished))
    data = event["data"]
    assert (data["id"], data["object"], data["status"]) == (job.id, "batch_job", status)
    assert data["metadata"] == {"team": "søk"}
    assert data["output_url"].startswith(f"http://localhost:8000/jobs/{job.id}/output?token=")
    assert received.headers["webhook-id"] == delivery.id
    assert received.headers["content-type"] == "application/json"
    assert await bench.jobs.get(job.org, job.id) == before


@sentence("webhooks-4", "webhooks-8", "webhooks-11")
async def test_every_kind_of_receiver(bench: Bench) -> None:
    """The willing ones get their event, with one id over all attempts; the others are given up, each for its reason."""
    mute = ("late", "hang", "drip")
    kinds = (*(kind for kind in WILLING if kind not in mute), "redirect", "gone", *mute)
    jobs, deliveries = dict[str, BatchJob](), dict[str, Delivery]()
    with receiving(*kinds) as receivers:
        for some, timeout_s in ((kinds[: -len(mute)], 30), (mute, 1)):
            async with bench.sending(timeout_s=timeout_s):
                jobs |= {kind: await bench.ended(receivers.urls[kind]) for kind in some}
                found = await bench.settled(*(jobs[kind] for kind in some))
            deliveries |= dict(zip(some, found, strict=True))
    secret = (await bench.secrets.get("org_a")).secret
    for received in receivers.received:
        assert received.verified(secret)["data"]["id"] == jobs[received.kind].id
        assert received.id == deliveries[received.kind].id
    tries = {kind: len(receivers.of(kind)) for kind in kinds}
    assert tries == {
        "ok": 1, "huge": 1, "flaky": 3, "reset": 2, "busy": 2, "late": 2,
        "gone": 1, "redirect": 4, "hang": 4, "drip": 4,
    }  # fmt: skip
    for kind in WILLING:
        assert deliveries[kind].status is DeliveryStatus.DELIVERED
    assert deliveries["gone"].reason is EndReason.GONE
    for kind in ("redirect", "hang", "drip"):
        assert deliveries[kind].reason is EndReason.SCHEDULE_ENDED
    codes = {
        kind: [each.status_code for each in await bench.deliveries.attempts("org_a", deliveries[kind].id)]
        for kind in ("flaky", "busy", "redirect", "drip", "gone")
    }
    assert codes == {
        "flaky": [500, 500, 204], "busy": [429, 204], "redirect": [302] * 4, "drip": [None] * 4, "gone": [410],
    }  # fmt: skip
    last = (await bench.deliveries.attempts("org_a", deliveries["hang"].id))[-1]
    assert last.error is not None
    assert last.error.endswith("did not answer within 1 s")


@sentence("webhooks-9")
async def test_both_secrets_sign_during_an_overlap(bench: Bench) -> None:
    """The old one not after it, and not at all with an overlap of 0."""
    with receiving("ok") as receivers:
        old = (await bench.secrets.get("org_a")).secret
        new = (await bench.secrets.rotate("org_a", overlap_s=1000)).secret
        async with bench.sending():
            await bench.settled(await bench.ended(receivers.urls["ok"]))
            receivers.received[0].verified(old, new)
            last = (await bench.secrets.rotate("org_a", overlap_s=0)).secret
            await bench.settled(await bench.ended(receivers.urls["ok"]))
    receivers.received[1].verified(last)
    for secret in (old, new):
        with pytest.raises(WebhookVerificationError):
            receivers.received[1].verified(secret)


@sentence("webhooks-11")
async def test_a_receiver_that_hangs_delays_nobody(bench: Bench) -> None:
    """A hundred wait for it, more than may be sent at once; those of its own organization and of others are sent."""
    with receiving("hang", "ok") as receivers:
        for _ in range(100):
            await bench.ended(receivers.urls["hang"])
        async with bench.sending(timeout_s=60, max_sending=20, max_sending_per_receiver=4):
            jobs = [
                await bench.ended(receivers.urls["ok"], org=org)
                for org in ("org_a", "org_b")
                for _ in range(5)
            ]
            await bench.settled(*jobs)
            assert len(receivers.of("hang")) == 4


async def test_a_sender_that_dies_is_followed_by_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the answer and its settlement: the event comes twice, with one id; nothing of the dead one is settled."""
    monkeypatch.setattr(webhooks, "_SILENCE", Silence(listening_s=60, gone_s=0.1))
    with receiving("ok") as receivers:
        job = await bench.ended(receivers.urls["ok"])
        dying = bench.sender()
        died = asyncio.Event()

        async def die(*_: object) -> bool:
            died.set()
            await asyncio.Event().wait()
            return False

        monkeypatch.setattr(dying._deliveries, "settle", die)
        task = asyncio.create_task(dying.run())
        await died.wait()
        await _end(task)
        async with bench.sending():
            (delivery,) = await bench.settled(job)
    assert [each.id for each in receivers.received] == [delivery.id] * 2
    assert len(await bench.deliveries.attempts(job.org, delivery.id)) == 1


async def test_a_claim_whose_answer_is_lost_is_no_wait(bench: Bench, redis_url: str) -> None:
    """The deliveries are in the sender's hands, and it knows nothing of them; their lease would be a minute."""
    direct = bench.store
    async with lossy(redis_url) as (proxy, url):
        bench.store = Store(url)
        with receiving("ok") as receivers:
            job = await bench.ended(receivers.urls["ok"])
            proxy.lose_reply("claim_deliveries")
            async with bench.sending(timeout_s=60):
                await bench.settled(job)
        await bench.store.close()
    bench.store = direct
    assert proxy.lost == 1
    assert len(receivers.received) == 1


async def test_what_is_in_hands_anew_is_not_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent again by hand and claimed before the sender hears that it is settled: or it would be taken for lost."""
    sender, known = bench.sender(), list[bool]()
    settle = sender._deliveries.settle

    async def late(claim: Claim, attempt: Attempt, verdict: Verdict) -> bool:
        known.append(claim.member in sender._known)
        is_settled = await settle(claim, attempt, verdict)
        if len(known) == 1:
            assert await bench.deliveries.redeliver(claim.delivery.org, claim.delivery.id)
            await sender.look()
        return is_settled

    monkeypatch.setattr(sender._deliveries, "settle", late)
    with receiving("ok") as receivers:
        await bench.ended(receivers.urls["ok"])
        await sender.look()
        while sender._sending:
            await asyncio.gather(*sender._sending)
    assert known == [True, True]
    assert sender._known == {}


async def test_an_event_is_small(bench: Bench) -> None:
    """At most 20,000 bytes whatever the caller named: metadata goes first, then the addresses."""
    with receiving("ok") as receivers:
        long = f"{receivers.urls['ok']}?{'x' * 8000}"
        async with bench.sending():
            first = await bench.ended(long, metadata={"a": "ü" * 7000})
            second = await bench.ended(long, input_url=f"https://a.example/{'ü' * 8000}", metadata={"a": 1})
            await bench.settled(first, second)
    events = {each["data"]["id"]: each["data"] for each in (json.loads(r.body) for r in receivers.received)}
    assert all(len(each.body) <= 20_000 for each in receivers.received)
    shown = ("metadata", "webhook", "input_url")
    assert [events[first.id][name] is None for name in shown] == [True, False, False]
    assert [events[second.id][name] is None for name in shown] == [True, True, False]
    assert events[second.id]["status"] == "canceled"


@sentence("webhooks-12")
async def test_an_address_inside_fails_in_words(bench: Bench) -> None:
    """Nothing is connected to; the log says why, and the attempts end."""
    async with bench.sending():
        job = await bench.ended("http://169.254.169.254/latest/meta-data")
        (delivery,) = await bench.settled(job)
    assert delivery.reason is EndReason.SCHEDULE_ENDED
    for attempt in await bench.deliveries.attempts(job.org, delivery.id):
        assert attempt.error is not None
        assert "not a public address" in attempt.error


async def test_the_receiver_of_the_guide_takes_what_is_signed_and_nothing_else(bench: Bench) -> None:
    """The code in guides/webhooks.md as it stands there, but for its port."""
    text = (PROJECT_ROOT / "platform" / "fyretoolkit" / "guides" / "webhooks.md").read_text("utf-8")
    (code,) = re.findall(r"```python /tmp/receiver.py\n(.*?)```", text, re.DOTALL)
    port = free_port()
    secret = (await bench.secrets.get("org_a")).secret
    receiver = await asyncio.create_subprocess_exec(
        sys.executable,
        "-uc",
        code.replace("9000", str(port)),
        env={**os.environ, "WEBHOOK_SECRET": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await until(is_listening)
        async with bench.sending(timeout_s=15):
            taken = await bench.ended(f"http://127.0.0.1:{port}/")
            refused = await bench.ended(f"http://127.0.0.1:{port}/", org="org_b")
            found = await bench.settled(taken, refused)
        assert receiver.stdout is not None
        assert (await receiver.stdout.readline()).startswith(f"batch.canceled {taken.id} http".encode())
    finally:
        receiver.kill()
        await receiver.wait()
    assert [each.status for each in found] == [DeliveryStatus.DELIVERED, DeliveryStatus.EXHAUSTED]
    codes = {each.status_code for each in await bench.deliveries.attempts("org_b", found[1].id)}
    assert codes == {400}


async def test_a_job_that_expired_is_not_sent(bench: Bench) -> None:
    """Its delivery lives a moment longer at most; there is nothing to tell."""
    with receiving("ok") as receivers:
        job = await bench.ended(receivers.urls["ok"])
        delivery = await bench.delivery(job)
        await bench.store.redis.delete(keys.job(job.org, job.id))
        async with bench.sending():
            await bench.settled(job)
        assert receivers.received == []
    errors = {each.error for each in await bench.deliveries.attempts(job.org, delivery.id)}
    assert errors == {"the job has expired"}


async def test_no_secret_and_no_address_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Addresses of receivers hold secrets of their owners."""
    caplog.set_level("DEBUG", "fyretoolkit")
    with receiving("gone") as receivers:
        async with bench.sending():
            await bench.settled(await bench.ended(f"{receivers.urls['gone']}?token=hidden"))
    assert "is exhausted: gone" in caplog.text
    assert "hidden" not in caplog.text
    assert (await bench.secrets.get("org_a")).secret not in caplog.text


async def test_a_scraper_sees_what_came_of_attempts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each outcome from the start; they only grow."""
    monkeypatch.setattr(webhooks, "_SHOW_S", 0.02)
    with receiving("ok", "gone") as receivers:
        async with bench.sending():
            await bench.settled(*[await bench.ended(receivers.urls[kind]) for kind in ("ok", "gone", "ok")])
            await until(_shows(bench, {"delivered": 2, "refused": 1, "unanswered": 0}))


def _shows(bench: Bench, counts: dict[str, int]) -> Callable[[], Awaitable[bool]]:
    async def shows() -> bool:
        return all(
            bench.shown.get(("fyre_webhook_attempts_total", outcome)) == count
            for outcome, count in counts.items()
        )

    return shows
