"""Deliveries in Redis: who claims what, in which order, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import DeliveryStatus, JobStatus
from fyretoolkit.core.webhooks import Attempt, Delivery, EndReason, Verdict
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deliveries import Claim, ClaimLimits, DeliveryStore, Silence
from fyretoolkit.store.jobs import JobStore
from fyretoolkit.store.webhook_secrets import WebhookSecretStore

Run = Callable[[Callable[[Store], Any]], Any]
PATIENT = Silence(listening_s=60, gone_s=60)
WIDE = ClaimLimits(1000, 1000, 1000)
OK = Attempt(at=100.0, duration_ms=20, status_code=204)
REFUSED = Attempt(at=100.0, duration_ms=1500, status_code=500)
DELIVERED = Verdict(DeliveryStatus.DELIVERED)


@dataclass
class Bench:
    """The repositories over one store."""

    store: Store

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.store, 1000)
        self.deliveries = DeliveryStore(self.store)

    async def ended(self, org: str = "org_a", webhook: str = "https://a.example/x") -> BatchJob:
        """A job with a webhook that was canceled."""
        job = BatchJob(
            id=new_id("job"),
            org=org,
            status=JobStatus.QUEUED,
            model="m",
            artifact="a" * 64,
            spec={},
            input_url="file:///in.jsonl",
            created=1,
            webhook=webhook,
        )
        await self.jobs.create(job)
        assert await self.jobs.finish(job, JobStatus.CANCELED) is JobStatus.CANCELED
        return job

    async def claim(
        self,
        sender: str = "one",
        *,
        limits: ClaimLimits = WIDE,
        lease_s: float = 60,
        silence: Silence = PATIENT,
        known: Sequence[str] | None = None,
    ) -> list[Claim]:
        """What this sender gets."""
        claims, _ = await self.deliveries.claim(
            sender, lease_s=lease_s, silence=silence, limits=limits, known=known
        )
        return claims

    async def only(self, job: BatchJob) -> Delivery:
        """The one delivery of a job."""
        (found,) = await self.deliveries.page(job.org, job.id, 10)
        return found


def test_what_is_due_is_claimed_once(with_store: Run) -> None:
    """By one of many who ask at the same time."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        jobs = [await bench.ended() for _ in range(30)]
        claims = await asyncio.gather(*(bench.claim(f"sender{number}") for number in range(8)))
        claimed = [claim.delivery.job for taken in claims for claim in taken]
        assert sorted(claimed) == sorted(job.id for job in jobs)
        assert await bench.deliveries.counts() == {"waiting": 0, "sending": 30}
        assert await bench.claim() == []

    with_store(scenario)


def test_a_delivered_one_is_done(with_store: Run) -> None:
    """Its attempt is in the log; nothing is left in the outbox; the log expires with the delivery."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        (claim,) = await bench.claim()
        assert claim.delivery == await bench.only(job)
        assert await bench.deliveries.settle(claim, OK, DELIVERED)
        after = await bench.only(job)
        assert (after.status, after.attempts, after.delivered_at) == (DeliveryStatus.DELIVERED, 1, 100)
        assert await bench.deliveries.attempts(job.org, after.id) == [OK]
        assert await bench.deliveries.counts() == {"waiting": 0, "sending": 0}
        for key in (
            keys.delivery(job.org, after.id),
            keys.delivery_attempts(job.org, after.id),
            keys.job_deliveries(job.org, job.id),
        ):
            assert 0 < await store.redis.ttl(key) <= 1000

    with_store(scenario)


def test_a_failed_one_waits_for_its_time(with_store: Run) -> None:
    """By the clock of Redis, whatever that of its sender says; then it is exhausted, and nothing is left."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        (claim,) = await bench.claim()
        before, _ = await store.redis.time()
        await bench.deliveries.settle(claim, REFUSED, Verdict(DeliveryStatus.PENDING, pause_s=1000))
        after, _ = await store.redis.time()
        waiting = await bench.only(job)
        assert waiting.attempts == 1
        assert waiting.next_at is not None
        assert before + 1000 <= waiting.next_at <= after + 1001
        assert await store.redis.zscore(keys.OUTBOX, f"{job.org} {waiting.id}") == waiting.next_at
        assert await bench.claim() == []
        await store.redis.zadd(keys.OUTBOX, {f"{job.org} {waiting.id}": 1})
        (again,) = await bench.claim()
        assert again.delivery.attempts == 1
        await bench.deliveries.settle(again, REFUSED, Verdict(DeliveryStatus.EXHAUSTED, EndReason.GONE))
        ended = await bench.only(job)
        assert (ended.status, ended.reason, ended.next_at, ended.attempts) == (
            DeliveryStatus.EXHAUSTED, EndReason.GONE, None, 2,
        )  # fmt: skip
        assert await bench.deliveries.counts() == {"waiting": 0, "sending": 0}

    with_store(scenario)


def test_what_a_dead_sender_had_is_taken_over(with_store: Run) -> None:
    """By whoever looks next; the dead one's word, should it come after all, is in the log and changes nothing."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        (lost,) = await bench.claim("dead")
        assert await bench.claim("other") == []
        (taken,) = await bench.claim("other", silence=Silence(60, -1))
        assert taken.delivery.id == lost.delivery.id
        assert not await bench.deliveries.settle(
            lost, REFUSED, Verdict(DeliveryStatus.EXHAUSTED, EndReason.GONE)
        )
        assert (await bench.only(job)).status is DeliveryStatus.PENDING
        assert await bench.deliveries.settle(taken, OK, DELIVERED)
        assert await bench.deliveries.attempts(job.org, taken.delivery.id) == [REFUSED, OK]

    with_store(scenario)


def test_a_sender_that_listens_may_be_silent_for_longer(with_store: Run) -> None:
    """It is slow, and its process lives; for ever it may not."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        await bench.ended()
        async with store.subscribe() as listening:
            await listening.subscribe(keys.sender_channel("slow"))
            await bench.claim("slow")
            assert await bench.claim("other", silence=Silence(60, -1)) == []
            (taken,) = await bench.claim("other", silence=Silence(-1, 60))
        assert (await bench.claim("third", silence=Silence(60, -1)))[0].delivery == taken.delivery

    with_store(scenario)


def test_what_a_sender_has_without_knowing_it_is_due_again(with_store: Run) -> None:
    """The answer to its claim was lost. What it knows of stays in its hands, and what others have in theirs."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        await bench.ended()
        (known,) = await bench.claim()
        await bench.ended()
        (other,) = await bench.claim("two")
        await bench.ended()
        (lost,) = await bench.claim()
        assert await bench.claim() == []
        (found,) = await bench.claim(known=[known.member])
        assert found.delivery.id == lost.delivery.id
        assert await bench.deliveries.counts() == {"waiting": 0, "sending": 3}
        for claim in (known, other, found):
            assert await bench.deliveries.settle(claim, OK, DELIVERED)

    with_store(scenario)


def test_a_claim_that_comes_late_takes_nothing(with_store: Run) -> None:
    """It was given up, and a newer one of its sender came first: what that took is neither lost nor taken again."""

    async def scenario(store: Store) -> None:
        bench, late = Bench(store), Bench(store)
        await bench.claim(known=[])
        await bench.ended()
        (newer,) = await bench.claim(known=[])
        await bench.ended()
        assert await late.claim(known=[]) == []
        assert await bench.deliveries.counts() == {"waiting": 1, "sending": 1}
        assert len(await late.claim("two", known=[])) == 1
        assert await bench.deliveries.settle(newer, OK, DELIVERED)
        assert 0 < await store.redis.pttl(keys.sender_claim("one")) <= 120_000

    with_store(scenario)


def test_a_claim_that_is_sent_twice_has_one_answer(with_store: Run) -> None:
    """Its sender hears one of the two, and nobody knows which was there first: the other takes nothing from it."""

    async def scenario(store: Store) -> None:
        bench, repeating = Bench(store), Bench(store)
        await bench.ended()
        first = await bench.claim(known=[])
        await bench.ended()
        assert len(first) == 1
        assert await repeating.claim(known=[]) == first
        assert await bench.deliveries.settle(first[0], OK, DELIVERED)
        (second,) = await bench.claim(known=[])
        assert await bench.deliveries.settle(second, OK, DELIVERED)

    with_store(scenario)


def test_a_damaged_record_keeps_no_other_from_being_sent(with_store: Run) -> None:
    async def scenario(store: Store) -> None:
        bench = Bench(store)
        damaged, other = await bench.ended(), await bench.ended()
        await store.redis.hset(keys.delivery("org_a", (await bench.only(damaged)).id), "attempts", "x")
        assert [claim.delivery.job for claim in await bench.claim()] == [other.id]

    with_store(scenario)


def test_a_record_that_cannot_be_read_is_put_off(with_store: Run) -> None:
    """In nobody's hands, or it would be claimed anew at every look by a sender that has it and does not know it."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        name = (await bench.only(job)).id
        await store.redis.hset(keys.delivery(job.org, name), "attempts", "x")
        assert await bench.claim(known=[]) == []
        assert await bench.deliveries.counts() == {"waiting": 1, "sending": 0}
        seconds, _ = await store.redis.time()
        due = await store.redis.zscore(keys.OUTBOX, f"{job.org} {name}")
        assert seconds + 3000 < due < seconds + 4000
        assert await bench.claim(known=[]) == []
        (attempt,) = await bench.deliveries.attempts(job.org, name)
        assert attempt.error == "the platform cannot read the record of this delivery"
        await store.redis.hset(keys.delivery(job.org, name), "attempts", "0")
        await bench.deliveries.redeliver(job.org, name)
        assert [claim.delivery.id for claim in await bench.claim()] == [name]

    with_store(scenario)


def test_a_claim_ends_with_its_lease(with_store: Run) -> None:
    """Though the sender lives: the attempt may have been forgotten."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        await bench.ended()
        (first,) = await bench.claim(lease_s=0)
        (second,) = await bench.claim()
        assert second.delivery.id == first.delivery.id
        assert await bench.claim() == []

    with_store(scenario)


def test_a_receiver_that_is_full_hides_nobody(with_store: Run) -> None:
    """Of three thousand that wait for one, two are in hands; what came last, for another, is claimed at once."""

    async def scenario(store: Store) -> None:
        bench, limits = Bench(store), ClaimLimits(100, 10, 2)
        first = await bench.ended(webhook="https://hangs.example/a")
        (claim,) = await bench.claim(limits=limits)
        pipeline = store.redis.pipeline()
        for name in (f"msg_{number}" for number in range(3000)):
            pipeline.hset(keys.delivery("org_a", name), mapping={**_record(claim.delivery), "id": name})
            pipeline.expire(keys.delivery("org_a", name), 100)
            pipeline.zadd(keys.OUTBOX, {f"org_a {name}": 5})
        await pipeline.execute()
        for _ in range(4):
            await bench.claim(limits=limits)
        for org, url in (("org_a", "https://well.example/b"), ("org_b", first.webhook or "")):
            job = await bench.ended(org, url)
            assert [each.delivery.job for each in await bench.claim(limits=limits)] == [job.id]
        assert (await bench.deliveries.counts())["sending"] == 2 + 2

    with_store(scenario)


def _record(delivery: Delivery) -> dict[str, str]:
    names = ("org", "job", "type", "url", "status")
    return {**{name: str(getattr(delivery, name)) for name in names}, "created": "1"}


def test_organizations_and_receivers_take_turns(with_store: Run) -> None:
    """Nobody waits for all that another has; an organization may have half of what is left, so some is always left."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        for number in range(30):
            await bench.ended("org_a", f"https://{number % 3}.example/")
        for _ in range(2):
            await bench.ended("org_b")
        claims = await bench.claim(limits=ClaimLimits(16, 100, 100))
        assert [claim.delivery.org for claim in claims[:4]] == ["org_a", "org_b"] * 2
        counts = Counter(claim.delivery.org for claim in claims)
        assert counts == {"org_a": 7, "org_b": 2}
        urls = Counter(claim.delivery.url for claim in claims if claim.delivery.org == "org_a")
        assert sorted(urls.values()) == [2, 2, 3]
        await bench.ended("org_c")
        (newcomer,) = await bench.claim(limits=ClaimLimits(16, 100, 100))
        assert newcomer.delivery.org == "org_c"

    with_store(scenario)


def test_lanes_go_when_they_are_empty(with_store: Run) -> None:
    """And a delivery that expired on its way is forgotten."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        limits = ClaimLimits(10, 10, 1)
        jobs = [await bench.ended() for _ in range(3)]
        (first,) = await bench.claim(limits=limits)
        await store.redis.delete(keys.delivery("org_a", (await bench.only(jobs[1])).id))
        await bench.deliveries.settle(first, OK, DELIVERED)
        (last,) = await bench.claim(limits=limits)
        assert last.delivery.job == jobs[2].id
        await bench.deliveries.settle(last, OK, DELIVERED)
        left = [key async for key in store.redis.scan_iter("fyre:*outbox*")]
        assert set(left) == {keys.OUTBOX_SENDERS, keys.sender_claim("one")}

    with_store(scenario)


def test_sending_again_begins_the_schedule_anew(with_store: Run) -> None:
    """From either end, and before its time; the log goes on."""

    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        for verdict in (
            DELIVERED,
            Verdict(DeliveryStatus.EXHAUSTED, EndReason.GONE),
            Verdict(DeliveryStatus.PENDING, pause_s=1e10),
        ):
            (claim,) = await bench.claim()
            assert claim.delivery.attempts == 0
            await bench.deliveries.settle(claim, OK, verdict)
            assert await bench.claim() == []
            assert await bench.deliveries.redeliver(job.org, claim.delivery.id)
            pending = await bench.only(job)
            assert (pending.status, pending.attempts, pending.reason, pending.next_at) == (
                DeliveryStatus.PENDING, 0, None, None,
            )  # fmt: skip
        assert len(await bench.deliveries.attempts(job.org, claim.delivery.id)) == 3
        assert not await bench.deliveries.redeliver(job.org, "msg_unknown")

    with_store(scenario)


def test_one_that_is_on_its_way_is_sent_once_more_after_that(with_store: Run) -> None:
    """In a lane it is sent anyway; in a sender's hands the attempt under way is not taken for the new one."""

    async def scenario(store: Store) -> None:
        bench, limits = Bench(store), ClaimLimits(10, 10, 1)
        jobs = [await bench.ended() for _ in range(2)]
        (claim,) = await bench.claim(limits=limits)
        assert claim.delivery.job == jobs[0].id
        for job in jobs:
            assert await bench.deliveries.redeliver(job.org, (await bench.only(job)).id)
        await bench.deliveries.settle(claim, OK, DELIVERED)
        assert (await bench.only(jobs[0])).status is DeliveryStatus.PENDING
        (second,) = await bench.claim(limits=limits)
        await bench.deliveries.settle(second, OK, DELIVERED)
        (third,) = await bench.claim(limits=limits)
        await bench.deliveries.settle(third, OK, DELIVERED)
        assert [second.delivery.job, third.delivery.job] == [jobs[1].id, jobs[0].id]
        assert await bench.claim() == []
        assert (await bench.only(jobs[0])).status is DeliveryStatus.DELIVERED

    with_store(scenario)


def test_the_log_keeps_the_newest_hundred(with_store: Run) -> None:
    async def scenario(store: Store) -> None:
        bench = Bench(store)
        job = await bench.ended()
        for number in range(103):
            (claim,) = await bench.claim()
            attempt = Attempt(at=float(number), duration_ms=1, status_code=200)
            await bench.deliveries.settle(claim, attempt, DELIVERED)
            await bench.deliveries.redeliver(job.org, claim.delivery.id)
        kept = await bench.deliveries.attempts(job.org, claim.delivery.id)
        assert [attempt.at for attempt in kept] == [float(number) for number in range(3, 103)]

    with_store(scenario)


def test_an_organization_has_one_secret(with_store: Run) -> None:
    """Whoever asks first and at the same time; another organization has another."""

    async def scenario(store: Store) -> None:
        secrets = WebhookSecretStore(store)
        found = await asyncio.gather(*(secrets.get("org_a") for _ in range(20)))
        assert len({each.secret for each in found}) == 1
        assert (await secrets.get("org_b")).secret != found[0].secret

    with_store(scenario)


def test_a_rotation_keeps_what_it_replaced_for_the_overlap(with_store: Run) -> None:
    """Of two rotations both; with an overlap of 0 nothing old signs any more."""

    async def scenario(store: Store) -> None:
        secrets = WebhookSecretStore(store)
        first = await secrets.get("org_a")
        second = await secrets.rotate("org_a", overlap_s=100)
        third = await secrets.rotate("org_a", overlap_s=50)
        assert third == await secrets.get("org_a")
        now = third.created
        assert third.signing(now) == (third.secret, second.secret, first.secret)
        assert third.signing(now + 60) == (third.secret, first.secret)
        fourth = await secrets.rotate("org_a", overlap_s=0)
        assert fourth.signing(now) == (fourth.secret,)
        for _ in range(20):
            last = await secrets.rotate("org_a", overlap_s=1000)
        assert len(last.signing(last.created)) == 9

    with_store(scenario)
