"""Tokens in hand: when the ledger is asked, who waits for it, and what goes on without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from fyretoolkit.api import leases as module
from fyretoolkit.api.leases import PROBE_S, Leases
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.limits import LEASES_A_WINDOW, LedgerAnswer, Report, Standing
from fyretoolkit.store.connection import RETRY_AFTER_S

pytestmark = pytest.mark.anyio

WINDOW_S = 60.0
LEASE_S = WINDOW_S / LEASES_A_WINDOW
_PATIENCE_S = 60


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever a test did: what it started has ended."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not {task for task in left if "TestRunner" not in repr(task)}


@dataclass
class _Ledger:
    """Hands out what is free, and never takes anything into account but that."""

    free: int = 1_000_000
    reports: list[Report] = field(default_factory=list)
    is_away: bool = False
    gate: asyncio.Event | None = None
    """If set, answers come once it is."""

    async def renew(self, org: str, key_id: str, report: Report) -> LedgerAnswer:
        self.reports.append(report)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise PlatformError("unavailable")
        held = max(report.kept, min(report.waiting + report.ahead, self.free + report.kept))
        self.free += report.dropped + report.kept - held
        room_us = 1_000_000 + 30_000_000 if self.free <= 0 else 0
        return LedgerAnswer(held, self.free, 0, room_us, 1_000_000)


class _Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """A manual clock."""
    return _Clock()


@pytest.fixture
def ledger() -> _Ledger:
    """A ledger with plenty."""
    return _Ledger()


@pytest.fixture
async def leases(ledger: _Ledger, clock: _Clock) -> AsyncIterator[Leases]:
    """The leases of one replica; closed at the end of the test."""
    opened = Leases(ledger, WINDOW_S, clock=clock)
    yield opened
    await opened.close()


async def _take(leases: Leases, limit: int = 600) -> Standing:
    return await leases.take("org_a", "key_a", limit)


async def _settled(leases: Leases) -> None:
    """Until no call to the ledger is under way."""
    async with asyncio.timeout(_PATIENCE_S):
        for account in leases._accounts.values():
            if account.renewal is not None:
                await asyncio.wait({account.renewal})


async def test_a_warm_take_asks_nobody(leases: Leases, ledger: _Ledger) -> None:
    """The first one asks; those that follow find tokens in hand, until half of them are used."""
    await _take(leases)
    for _ in range(2):
        assert (await _take(leases)).retry_after_s is None
    assert len(ledger.reports) == 1


async def test_tokens_are_renewed_before_they_run_out(leases: Leases, ledger: _Ledger) -> None:
    """Thousands of uses, one after another with the loop free in between: only the first one waited."""
    for _ in range(3000):
        await _take(leases, 60_000)
        await asyncio.sleep(0)
    await _settled(leases)
    assert [report.waiting for report in ledger.reports if report.waiting] == [1]
    assert 3000 / 600 <= len(ledger.reports) <= 3000 / 300 + 1


async def test_a_lease_is_renewed_before_its_end(leases: Leases, ledger: _Ledger, clock: _Clock) -> None:
    """A trickle of requests, each within half a lease of the one before, never waits."""
    for _ in range(20):
        await _take(leases)
        await _settled(leases)
        clock.now += LEASE_S / 2
    assert [report.waiting for report in ledger.reports if report.waiting] == [1]


async def test_those_who_wait_share_one_call(leases: Leases, ledger: _Ledger) -> None:
    """Fifty cold requests at once: one call brings a token for each."""
    standings = await asyncio.gather(*(_take(leases) for _ in range(50)))
    assert all(standing.retry_after_s is None for standing in standings)
    assert [report.waiting for report in ledger.reports] == [50]


async def test_when_there_are_fewer_tokens_than_waiters_the_rest_is_refused(
    leases: Leases, ledger: _Ledger
) -> None:
    """Nobody hangs, nobody gets more than there is."""
    ledger.free = 7
    standings = await asyncio.gather(*(_take(leases) for _ in range(20)))
    assert sum(standing.retry_after_s is None for standing in standings) == 7
    assert [standing.remaining for standing in standings if standing.retry_after_s is not None] == [0] * 13


async def test_a_refusal_is_remembered_so_that_a_flood_costs_no_calls(
    leases: Leases, ledger: _Ledger, clock: _Clock
) -> None:
    """For a sixtieth of the window; who waits is told less and less."""
    ledger.free = 0
    waits = []
    for _ in range(100):
        waits.append((await _take(leases)).retry_after_s)
        clock.now += 0.009
    assert len(ledger.reports) == 1
    assert waits[0] == pytest.approx(30.0)
    assert waits[-1] == pytest.approx(30.0 - 99 * 0.009)
    clock.now += 0.2
    ledger.free = 5
    assert (await _take(leases)).retry_after_s is None


async def test_a_waiter_that_gives_up_leaves_the_call_to_the_others(leases: Leases, ledger: _Ledger) -> None:
    """A client that goes away cancels its own wait alone."""
    ledger.gate = asyncio.Event()
    impatient = asyncio.create_task(_take(leases))
    patient = asyncio.create_task(_take(leases))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(ledger.reports) == 1
    impatient.cancel()
    ledger.gate.set()
    assert (await patient).retry_after_s is None
    assert impatient.cancelled()
    assert len(ledger.reports) == 1


async def test_without_redis_the_tokens_in_hand_stay_good_and_are_counted(
    leases: Leases, ledger: _Ledger, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the lease's end, each once; then 503 with Retry-After; one log line for the whole outage."""
    await _take(leases)
    ledger.is_away = True
    clock.now += LEASE_S + 1
    with caplog.at_level(logging.INFO, module.logger.name):
        for _ in range(6):
            assert (await _take(leases)).retry_after_s is None
            await _settled(leases)
        assert leases.degraded == 6
        for _ in range(3):
            with pytest.raises(PlatformError, match="unavailable") as refused:
                await _take(leases)
            clock.now += PROBE_S
        assert refused.value.retry_after_s == RETRY_AFTER_S
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        ledger.is_away = False
        assert (await _take(leases)).retry_after_s is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert sum(report.spent for report in ledger.reports if report.sent_at == clock.now) == 7


async def test_whoever_counts_hears_of_each_prediction_without_redis(ledger: _Ledger, clock: _Clock) -> None:
    """And of none that a valid lease covers."""
    heard: list[float] = []
    leases = Leases(ledger, WINDOW_S, on_degraded=lambda: heard.append(clock.now), clock=clock)
    await _take(leases)
    ledger.is_away = True
    clock.now += LEASE_S + 1
    for _ in range(3):
        await _take(leases)
        await _settled(leases)
    assert heard == [clock.now] * 3 == [clock.now] * leases.degraded
    await leases.close()


async def test_an_outage_is_probed_now_and_then_and_not_by_every_request(
    leases: Leases, ledger: _Ledger, clock: _Clock
) -> None:
    """A thousand requests during half a second of it: one call."""
    ledger.is_away = True
    for _ in range(1000):
        with pytest.raises(PlatformError, match="unavailable"):
            await _take(leases)
    assert len(ledger.reports) == 1
    clock.now += PROBE_S
    with pytest.raises(PlatformError, match="unavailable"):
        await _take(leases)
    assert len(ledger.reports) == 2


async def test_a_silent_ledger_is_an_absent_one(
    leases: Leases, ledger: _Ledger, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that hangs is given up, and the tokens in hand are used."""
    await _take(leases)
    ledger.gate = asyncio.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    clock.now += LEASE_S
    assert (await _take(leases)).retry_after_s is None
    assert leases.degraded == 1


async def test_ended_leases_are_given_back_and_forgotten(
    ledger: _Ledger, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the task that runs beside the requests; afterwards nothing is kept of the key."""
    leases = Leases(ledger, WINDOW_S / 10_000, clock=clock)
    await _take(leases)
    running = asyncio.create_task(leases.run())
    clock.now += LEASE_S
    async with asyncio.timeout(_PATIENCE_S):
        while leases._accounts:
            clock.now += LEASE_S
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait({running})
    assert ledger.free == 1_000_000 - 1
    assert [(report.spent, report.kept, report.dropped) for report in ledger.reports[1:]] == [(1, 0, 6)]


async def test_the_sweep_survives_a_defect(
    ledger: _Ledger, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What one key's lease did is logged, and the others are still swept."""

    class Broken(_Ledger):
        async def renew(self, org: str, key_id: str, report: Report) -> LedgerAnswer:
            if key_id == "key_bad" and self.reports:
                raise ValueError("broken")
            return await super().renew(org, key_id, report)

    broken = Broken()
    leases = Leases(broken, WINDOW_S / 10_000, clock=clock)
    await leases.take("org_a", "key_bad", 600)
    await leases.take("org_a", "key_a", 600)
    clock.now += LEASE_S
    running = asyncio.create_task(leases.run())
    async with asyncio.timeout(_PATIENCE_S):
        while ("org_a", "key_a") in leases._accounts:
            clock.now += LEASE_S
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait({running})
    assert "could not be ended" in caplog.text


async def test_closing_gives_everything_back(ledger: _Ledger, clock: _Clock) -> None:
    """Also what a call under way brings."""
    leases = Leases(ledger, WINDOW_S, clock=clock)
    for number in range(5):
        await leases.take("org_a", f"key_{number}", 600)
    for _ in range(3):
        await leases.take("org_a", "key_0", 600)
    await leases.close()
    assert ledger.free == 1_000_000 - 8


async def test_closing_does_not_wait_for_a_ledger_that_hangs(
    ledger: _Ledger, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given a moment; then the tokens are left to expire."""
    leases = Leases(ledger, WINDOW_S, clock=clock)
    await _take(leases)
    ledger.gate = asyncio.Event()
    monkeypatch.setattr(module, "_CLOSE_S", 0.01)
    async with asyncio.timeout(_PATIENCE_S):
        await leases.close()


async def test_a_changed_plan_counts_at_the_next_request(leases: Leases, ledger: _Ledger) -> None:
    """Tokens granted under the larger one are given back first."""
    await _take(leases, 60_000)
    standing = await _take(leases, 600)
    assert standing.limit == 600
    assert ledger.reports[-1].limit == 600
    assert ledger.reports[-1].dropped == 600 - 6
    assert [report.waiting for report in ledger.reports] == [1, 1]
