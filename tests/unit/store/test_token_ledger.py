"""The ledger of tokens for predictions, on a real Redis with a clock of our own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyretoolkit.core.limits import Lease, LedgerAnswer, Report
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.limits import LimitStore
from tests.support.manual_redis import ManualClock, run_manually

WINDOW_S = 60
LEASE_S = 5.0
SLOT_S = 0.5
REMEMBERED_S = 1.0
_PROPERTY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STEPS = st.sampled_from([0.0, 0.0, 0.000_001, 0.05, 0.4, 2.5, 5.0, 17.3, 59.999_999, 60.0, 61.0])


def most_in_a_window(moments: list[float], window_s: float) -> int:
    """The most moments that any window [start, start + window_s) holds; it may as well start at one of them."""
    return max((sum(start <= each < start + window_s for each in moments) for start in moments), default=0)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


def test_who_waits_for_a_dead_replicas_tokens_is_told_so(redis_url: str) -> None:
    """All of the limit went to a replica that died before it used them: a lease and a window, and no less."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        fleet = _Fleet(store, clock, 2)
        dead, alive = fleet.add(), fleet.add()
        await fleet.send(dead, waiting=2)
        await fleet.arrive(dead)
        await clock.advance(1)
        assert not await fleet.predict(alive)
        assert alive.lease.refusal(clock.now).retry_after_s == pytest.approx(LEASE_S + WINDOW_S - 1)
        await clock.advance(LEASE_S + WINDOW_S - 1)
        assert await fleet.predict(alive)

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)
