"""The log of reads and writes and the ledger of tokens, on a real Redis with a clock of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil

import anyio
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyretoolkit.core.limits import (
    Category,
    Lease,
    LedgerAnswer,
    LogAnswer,
    Report,
    Standing,
    standing_in_log,
)
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.limits import LimitStore
from tests.support.manual_redis import ManualClock, manual_scripts

WINDOW_S = 60
LEASE_S = 5.0
SLOT_S = 0.5
REMEMBERED_S = 1.0
_PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STEPS = st.sampled_from([0.0, 0.0, 0.000_001, 0.05, 0.4, 2.5, 5.0, 17.3, 59.999_999, 60.0, 61.0])


@asynccontextmanager
async def _manual(url: str) -> AsyncIterator[tuple[Store, ManualClock]]:
    with manual_scripts():
        store = Store(url)
        try:
            await store.redis.flushall()
            await store.redis.config_set("appendfsync", "no")  # thousands of steps, and no test of durability
            clock = ManualClock(store)
            await clock.set()
            yield store, clock
        finally:
            await store.redis.config_set("appendfsync", "always")
            await store.close()


def _run(url: str, scenario: Callable[[Store, ManualClock], Awaitable[None]]) -> None:
    async def main() -> None:
        async with _manual(url) as (store, clock):
            await scenario(store, clock)

    anyio.run(main)


def most_in_a_window(moments: list[float], window_s: float) -> int:
    """The most moments that any window [start, start + window_s) holds; it may as well start at one of them."""
    return max((sum(start <= each < start + window_s for each in moments) for start in moments), default=0)


# Reads and writes


async def _read(store: Store, limit: int) -> tuple[LogAnswer, Standing]:
    limits = LimitStore(store, WINDOW_S)
    answer = await limits.log("org_a", "key_a", Category.READ, limit)
    return answer, standing_in_log(answer, limit=limit, window_us=limits.window_us)


@_PROPERTY
@given(limit=st.integers(1, 6), steps=st.lists(STEPS, max_size=40))
def test_a_request_is_admitted_exactly_if_the_window_before_it_has_room(
    redis_url: str, limit: int, steps: list[float]
) -> None:
    """Against an oracle that keeps every admitted moment; remaining, reset and retry are what it says, too."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        admitted: list[int] = []
        for step in steps:
            await clock.advance(step)
            live = [each for each in admitted if each > clock.now_us - WINDOW_S * 1_000_000]
            answer, standing = await _read(store, limit)
            assert answer.is_admitted == (len(live) < limit)
            if answer.is_admitted:
                admitted.append(clock.now_us)
                live.append(clock.now_us)
                assert standing.retry_after_s is None
            else:
                assert standing.retry_after_s == pytest.approx((live[0] - clock.now_us) / 1e6 + WINDOW_S)
            assert standing.remaining == limit - len(live)
            assert standing.reset_at == pytest.approx(live[0] / 1e6 + WINDOW_S)

    _run(redis_url, scenario)


def test_who_waits_as_long_as_told_is_admitted(redis_url: str) -> None:
    """Also when the plan became smaller meanwhile: then several have to leave the window first."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        for _ in range(5):
            await _read(store, 5)
            await clock.advance(1)
        for limit in (5, 2):
            answer, standing = await _read(store, limit)
            assert not answer.is_admitted
            assert standing.retry_after_s is not None
            start = clock.now_us
            await clock.advance(standing.retry_after_s - 0.000_001)
            assert not (await _read(store, limit))[0].is_admitted
            await clock.set(start + ceil(standing.retry_after_s * 1_000_000))
            assert (await _read(store, limit))[0].is_admitted

    _run(redis_url, scenario)


def test_a_clock_that_is_set_back_neither_opens_nor_shuts_the_limit(redis_url: str) -> None:
    """What was counted stays counted, for one window from the new time: not for the hour that was lost."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        for _ in range(3):
            await _read(store, 3)
        await clock.advance(-3600)
        answer, standing = await _read(store, 3)
        assert not answer.is_admitted
        assert standing.retry_after_s == WINDOW_S
        await clock.advance(WINDOW_S)
        assert (await _read(store, 3))[0].is_admitted

    _run(redis_url, scenario)


def test_a_log_holds_one_window_and_expires(redis_url: str) -> None:
    """It never grows beyond the limit, and goes with the last request in it."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        log = keys.request_log("org_a", "key_a", Category.READ)
        for _ in range(50):
            await _read(store, 7)
            await clock.advance(3)
        assert await store.redis.llen(log) <= 7  # type: ignore[misc]
        assert 0 < await store.redis.pttl(log) <= WINDOW_S * 1000

    _run(redis_url, scenario)


# Predictions


@dataclass
class _Replica:
    """One ingress replica without its event loop: a lease, and at most one report under way."""

    limits: LimitStore
    lease: Lease
    offset_s: float
    """Its monotonic clock, whose zero is its own."""
    sent: Report | None = None
    answer: LedgerAnswer | None = None
    waiting: int = 0


@dataclass
class _Fleet:
    """Replicas over one ledger, and when each of them used a token, by Redis's clock."""

    store: Store
    clock: ManualClock
    limit: int
    uses: list[float] = field(default_factory=list)
    replicas: list[_Replica] = field(default_factory=list)

    def add(self, offset_s: float = 0.0) -> _Replica:
        replica = _Replica(LimitStore(self.store, WINDOW_S), Lease(WINDOW_S, self.limit), offset_s)
        self.replicas.append(replica)
        return replica

    def now(self, replica: _Replica) -> float:
        return self.clock.now + replica.offset_s

    async def request(self, replica: _Replica) -> bool | None:
        """One prediction; None if it waits for an answer."""
        now = self.now(replica)
        if replica.lease.take(now):
            self.uses.append(self.clock.now)
            if replica.lease.is_renewal_due(now):
                await self.send(replica, waiting=0)
            return True
        if replica.lease.is_refused(now):
            return False
        replica.waiting += 1
        await self.send(replica, waiting=replica.waiting)
        return None

    async def send(self, replica: _Replica, *, waiting: int, is_ending: bool = False) -> None:
        if replica.sent is None:
            now = self.now(replica)
            replica.sent = (
                replica.lease.give_back(now) if is_ending else replica.lease.report(now, waiting=waiting)
            )

    async def arrive(self, replica: _Replica, times: int = 1) -> None:
        """The report under way reaches Redis, perhaps twice."""
        if replica.sent is not None:
            for number in range(times):
                if number:
                    replica.limits._sequence -= 1  # as the connection sends it again, unchanged
                replica.answer = await replica.limits.renew("org_a", "key_a", replica.sent)

    async def answer(self, replica: _Replica) -> None:
        """The answer, if there is one by now, reaches the replica; who waited for it uses a token or gives up."""
        if replica.sent is None:
            return
        if replica.answer is None:
            await self.arrive(replica)
        assert replica.answer is not None
        replica.lease.renewed(replica.sent, replica.answer, self.now(replica))
        replica.sent = replica.answer = None
        waiting, replica.waiting = replica.waiting, 0
        for _ in range(waiting):
            if replica.lease.take(self.now(replica)):
                self.uses.append(self.clock.now)

    async def lose(self, replica: _Replica) -> None:
        """The answer is lost, or the report was: the replica cannot tell."""
        if replica.sent is not None:
            replica.lease.failed(replica.sent)
            replica.sent = replica.answer = None
            replica.waiting = 0

    async def crash(self, replica: _Replica) -> None:
        """Another process takes its place and knows nothing."""
        self.replicas[self.replicas.index(replica)] = _Replica(
            LimitStore(self.store, WINDOW_S), Lease(WINDOW_S, self.limit), replica.offset_s
        )

    async def sweep(self, replica: _Replica) -> None:
        if replica.lease.is_over(self.now(replica)) and not replica.lease.is_settled:
            await self.send(replica, waiting=0, is_ending=True)

    async def predict(self, replica: _Replica) -> bool:
        """One prediction with every answer at once."""
        admitted = await self.request(replica)
        before = len(self.uses)
        await self.answer(replica)
        return len(self.uses) > before if admitted is None else admitted

    async def drain(self, replica: _Replica) -> None:
        """Predictions until one is refused."""
        await self.answer(replica)
        while await self.predict(replica):
            pass


KINDS = ["request"] * 6 + ["answer"] * 4 + ["arrive", "twice", "lose", "sweep", "crash", "drain"]
EVENTS = st.lists(
    st.tuples(st.one_of(st.just(0.0), STEPS), st.integers(0, 2), st.sampled_from(KINDS), st.integers(1, 5)),
    min_size=20,
    max_size=80,
)


@_PROPERTY
@given(limit=st.one_of(st.integers(1, 40), st.just(300)), events=EVENTS)
def test_no_window_ever_holds_more_predictions_than_the_limit(
    redis_url: str, limit: int, events: list[tuple[float, int, str, int]]
) -> None:
    """Three replicas, answers that come late, twice or never, and crashes: nothing makes it one too many.

    And whoever is refused and waits as long as told is admitted, by whichever replica. (Not where an answer was lost:
    uses that are then reported again count twice for a window.)
    """

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, limit)
        for offset_s in (0.0, 1234.5, -98765.4):
            fleet.add(offset_s)
        for step, number, kind, times in events:
            await clock.advance(step)
            replica = fleet.replicas[number]
            if kind == "request":
                for _ in range(times):
                    await fleet.request(replica)
            elif kind == "twice":
                await fleet.arrive(replica, times=2)
            else:
                await getattr(fleet, kind)(replica)
        for replica in fleet.replicas:
            await fleet.answer(replica)
        for replica in fleet.replicas:
            await fleet.drain(replica)
        asking, other = fleet.replicas[:2]
        await clock.advance(REMEMBERED_S)  # what others held when it was refused, they may have used since
        await fleet.drain(asking)
        if all(kind != "lose" for _, _, kind, _ in events):
            refusal = asking.lease.refusal(fleet.now(asking))
            assert refusal.retry_after_s is not None
            await clock.advance(refusal.retry_after_s + 0.000_002)
            assert await fleet.predict(other)
        assert most_in_a_window(fleet.uses, WINDOW_S) <= limit

    _run(redis_url, scenario)


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 600])
def test_a_burst_through_two_replicas_gets_every_token(redis_url: str, limit: int) -> None:
    """However the requests alternate, the last tokens are not left with the replica that is not asked."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, limit)
        first, second = fleet.add(), fleet.add(50.0)
        answers = [await fleet.predict((first, second)[number % 2]) for number in range(limit + 10)]
        admitted = sum(answers)
        assert admitted == len(fleet.uses)
        held = first.lease.tokens + second.lease.tokens
        assert admitted + held == limit
        assert held <= 0.02 * limit

    _run(redis_url, scenario)


def test_steady_demand_uses_the_limit_in_every_window(redis_url: str) -> None:
    """Twice the limit asked for, evenly, through two replicas: at least 95% of three windows is admitted."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 300)
        replicas = fleet.add(), fleet.add(50.0)
        for number in range(3 * 600):
            replica = replicas[number % 2]
            await fleet.sweep(replica)
            await fleet.answer(replica)
            await fleet.predict(replica)
            await clock.advance(WINDOW_S / 600)
        assert most_in_a_window(fleet.uses, WINDOW_S) <= 300
        assert len(fleet.uses) >= 0.95 * 3 * 300

    _run(redis_url, scenario)


def test_unused_tokens_of_an_ended_lease_are_given_back(redis_url: str) -> None:
    """One use of a grant of six: when the lease is over, only the use still counts."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 600)
        replica = fleet.add()
        assert await fleet.predict(replica)
        assert replica.lease.tokens == 6
        assert replica.lease.standing(clock.now).remaining == 599
        await clock.advance(LEASE_S)
        await fleet.sweep(replica)
        await fleet.answer(replica)
        assert replica.lease.is_settled
        assert replica.lease.free == 599

    _run(redis_url, scenario)


def test_a_dead_replicas_tokens_come_back_a_window_after_its_lease(redis_url: str) -> None:
    """They may have been used at the last instant of the lease."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 600)
        dead, alive = fleet.add(), fleet.add()
        assert await fleet.predict(dead)
        await clock.advance(LEASE_S + WINDOW_S - 0.000_001)
        assert await fleet.predict(alive)
        assert alive.lease.free + alive.lease.tokens == 600 - 1 - 7
        await clock.advance(LEASE_S)
        assert await fleet.predict(alive)
        assert alive.lease.free + alive.lease.tokens == 600 - 2

    _run(redis_url, scenario)


def test_a_use_during_an_outage_counts_from_its_own_moment(redis_url: str) -> None:
    """Beyond the lease's end, reported when Redis is back: it counts for a window from then, not from the lease."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 600)
        away, other = fleet.add(), fleet.add()
        assert await fleet.predict(away)
        await clock.advance(LEASE_S + 30)
        assert not away.lease.take(clock.now)
        for _ in range(6):
            assert away.lease.take(clock.now, is_suspended=True)
        await clock.advance(20)
        await fleet.send(away, waiting=0, is_ending=True)
        await fleet.answer(away)
        await clock.advance(40 - SLOT_S)
        assert await fleet.predict(other)
        assert other.lease.free + other.lease.tokens == 600 - 1 - 7
        await clock.advance(2 * SLOT_S)
        other.lease.ends_at = clock.now
        assert await fleet.predict(other)
        assert other.lease.free + other.lease.tokens == 600 - 2

    _run(redis_url, scenario)


def test_a_report_that_arrives_twice_is_counted_once(redis_url: str) -> None:
    """The connection sends a script again when it was cut off before the answer."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 600)
        replica = fleet.add()
        assert await fleet.predict(replica)
        await fleet.send(replica, waiting=0)
        await fleet.arrive(replica, times=2)
        await fleet.answer(replica)
        assert replica.lease.free + replica.lease.tokens == 600 - 1

    _run(redis_url, scenario)


def test_a_late_report_changes_nothing(redis_url: str) -> None:
    """One that was given up and arrives after a newer one is ignored: the newer one said what is held."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        limits = LimitStore(store, WINDOW_S)
        early = Report(100, spent=3, spent_ago_s=0.0, kept=5, dropped=0, waiting=0, ahead=5, sent_at=0.0)
        late = Report(100, spent=4, spent_ago_s=0.0, kept=1, dropped=0, waiting=0, ahead=1, sent_at=1.0)
        limits._sequence = 1
        assert (await limits.renew("org_a", "key_a", late)).free == 100 - 4 - 1
        limits._sequence = 0
        assert (await limits.renew("org_a", "key_a", early)).held == 0
        limits._sequence = 2
        nothing = Report(100, spent=0, spent_ago_s=0.0, kept=1, dropped=0, waiting=0, ahead=1, sent_at=2.0)
        assert (await limits.renew("org_a", "key_a", nothing)).free == 100 - 4 - 1

    _run(redis_url, scenario)


def test_a_ledger_stays_small_and_expires(redis_url: str) -> None:
    """However many reports there are: once there are many, those that leave the window together are one field.

    They leave it late rather than early: the limit holds all the same.
    """

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 500)
        replica = fleet.add()
        for _ in range(1400):
            await fleet.predict(replica)
            await fleet.send(replica, waiting=0)
            await fleet.answer(replica)
            await clock.advance(0.1)
        assert 480 <= most_in_a_window(fleet.uses, WINDOW_S) <= 500
        ledger = keys.token_ledger("org_a", "key_a")
        assert await store.redis.hlen(ledger) <= 240 + WINDOW_S / SLOT_S + 2  # type: ignore[misc]
        assert 0 < await store.redis.pttl(ledger) <= (WINDOW_S + LEASE_S + SLOT_S) * 1000

    _run(redis_url, scenario)


def test_a_ledger_survives_a_clock_that_is_set_back(redis_url: str) -> None:
    """Spent tokens count for a window from the new time, a dead replica's a lease and a window."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 600)
        used, dead, alive = fleet.add(), fleet.add(), fleet.add()
        assert await fleet.predict(used)
        await fleet.send(used, waiting=0, is_ending=True)
        await fleet.answer(used)
        assert await fleet.predict(dead)
        await clock.advance(-3600)
        assert await fleet.predict(alive)
        assert alive.lease.free + alive.lease.tokens == 600 - 1 - 7 - 1
        await clock.advance(WINDOW_S + LEASE_S + SLOT_S)
        assert await fleet.predict(alive)
        assert alive.lease.free + alive.lease.tokens == 600 - 1

    _run(redis_url, scenario)


def test_both_kinds_of_keys_carry_the_organization(redis_url: str) -> None:
    """Two organizations never share a count, and the keys of both categories are the key's own."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:

        async def scenario(store: Store, clock: ManualClock) -> None:
            limits = LimitStore(store, WINDOW_S)
            for org in ("org_a", "org_b"):
                for category in (Category.READ, Category.WRITE):
                    answer = await limits.log(org, "key_a", category, 5)
                    assert answer.counted == 1

        _run(redis_url, scenario)
        found = {key for key in client.keys("fyre:*") if isinstance(key, str)}
    assert found == {
        f"fyre:org:{org}:limits:key_a:{kind}" for org in ("org_a", "org_b") for kind in ("read", "write")
    }
