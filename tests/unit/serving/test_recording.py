"""Recording over a real Redis, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.metrics import Period, Tally
from fyretoolkit.serving.recording import Recorder
from fyretoolkit.serving.routing import Route
from fyretoolkit.store.connection import Store
from fyretoolkit.store.metrics import MetricsStore, Traffic

pytestmark = pytest.mark.anyio
ORG = "org_a"


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class FailingStore(MetricsStore):
    """Redis that is away, or whose answers are lost after the work was done."""

    is_away = False
    is_deaf = False

    async def add(self, recorder: str, batch: int, traffic: Sequence[Traffic]) -> bool:
        if self.is_away:
            raise PlatformError("unavailable")
        added = await super().add(recorder, batch, traffic)
        if self.is_deaf:
            raise PlatformError("unavailable")
        return added


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[FailingStore]:
    connection = Store(redis_url)
    yield FailingStore(connection)
    await connection.close()


def _route(name: str = "dep_a") -> Route:
    """Of a route, recording asks where it leads, and nothing else."""
    return Route(
        deployment=name,
        org=ORG,
        model="m",
        region="r",
        traffic=100,
        artifact="",
        codec=cast(Any, None),
        max_batch_size=8,
        replicas=1,
    )


def _predict(recorder: Recorder, clock: Clock, total_ms: float = 5.0, name: str = "dep_a") -> None:
    with recorder.begin() as outcome:
        outcome.routed(_route(name), 2)
        outcome.calls_ms, outcome.compute_ms, outcome.batch_size = total_ms / 2, total_ms / 4, 8
        clock.now += total_ms / 1000
        outcome.answered()


def _fail(recorder: Recorder, error: BaseException) -> None:
    with recorder.begin() as outcome:
        outcome.routed(_route(), 1)
        raise error


async def _read(store: MetricsStore, period: Period = Period.HOUR, name: str = "dep_a") -> Tally:
    return Tally.union(await store.read(ORG, name, await store.window(period)))


async def test_percentiles_are_those_of_the_latencies_that_were_recorded(store: FailingStore) -> None:
    clock, draw = Clock(), random.Random(7)
    recorder = Recorder(store, clock=clock)
    latencies = [draw.lognormvariate(3, 1) for _ in range(1000)]
    for index, latency in enumerate(latencies):
        _predict(recorder, clock, latency)
        if index % 100 == 0:
            await recorder.flush()
    await recorder.flush()
    tally = await _read(store)
    exact = [sorted(latencies)[rank - 1] for rank in (500, 900, 950, 990)]
    assert tally.total.percentiles(50, 90, 95, 99) == [pytest.approx(value, rel=0.01) for value in exact]
    assert tally.total.max == pytest.approx(max(latencies))
    assert tally.total.mean == pytest.approx(sum(latencies) / 1000)
    assert tally.compute.percentiles(50) == [pytest.approx(exact[0] / 4, rel=0.01)]
    assert (tally.requests, tally.inputs, tally.batch_rows) == (1000, 2000, 8000)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (PlatformError("invalid_input"), {"failed": 1}),
        (PlatformError("deadline_exceeded"), {"failed": 1}),
        (PlatformError("overloaded"), {"rejected": 1}),
        (ValueError("a defect"), {"failed": 1}),
        (asyncio.CancelledError(), {"canceled": 1}),
    ],
)
async def test_what_is_raised_after_routing_counts_for_the_deployment(
    store: FailingStore, raised: BaseException, expected: dict[str, int]
) -> None:
    recorder = Recorder(store)
    with pytest.raises(type(raised)):
        _fail(recorder, raised)
    await recorder.flush()
    tally = await _read(store)
    found = {name: getattr(tally, name) for name in ("succeeded", "failed", "rejected", "canceled")}
    assert {name: count for name, count in found.items() if count} == expected
    assert tally.total.count == 0


async def test_what_was_not_routed_counts_for_nobody(store: FailingStore) -> None:
    recorder = Recorder(store)
    with pytest.raises(PlatformError), recorder.begin():
        raise PlatformError("malformed_json")
    await recorder.flush()
    assert [key async for key in store._store.redis.scan_iter("*")] == []


async def test_two_recorders_add_up(store: FailingStore) -> None:
    clock = Clock()
    for _ in range(2):
        recorder = Recorder(store, clock=clock)
        _predict(recorder, clock)
        await recorder.flush()
    assert (await _read(store)).requests == 2


async def test_a_flush_whose_answer_was_lost_is_counted_once(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    _predict(recorder, clock)
    store.is_deaf = True
    for _ in range(3):
        with pytest.raises(PlatformError):
            await recorder.flush()
        _predict(recorder, clock)
    store.is_deaf = False
    await recorder.flush()
    assert (await _read(store)).requests == 4


async def test_a_flush_that_was_canceled_is_counted_once(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    for pause in range(5):
        _predict(recorder, clock)
        flushing = asyncio.ensure_future(recorder.flush())
        for _ in range(pause):
            await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.wait({flushing})
    await recorder.flush()
    assert (await _read(store)).requests == 5


async def test_simultaneous_flushes_count_once(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    _predict(recorder, clock)
    await asyncio.gather(*(recorder.flush() for _ in range(5)))
    assert (await _read(store)).requests == 1


async def test_what_happened_while_redis_was_away_shows_when_it_happened(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    store.is_away = True
    _predict(recorder, clock)
    for _ in range(1000):  # seconds
        clock.now += 1
        with pytest.raises(PlatformError):
            await recorder.flush()
    _predict(recorder, clock)
    store.is_away = False
    await recorder.flush()
    assert (await _read(store, Period.HOUR)).requests == 2
    assert (await _read(store, Period.FIVE_MINUTES)).requests == 1


async def test_an_outage_of_hours_takes_bounded_memory_and_loses_nothing(store: FailingStore) -> None:
    """10,000 s in at most 64 slots: each is at most 512 s wide, so times are that imprecise, and only backwards."""
    clock = Clock()
    recorder = Recorder(store, clock=clock, max_tallies=64)
    for _ in range(10_000):
        clock.now += 1
        _predict(recorder, clock, 0.0)
        assert len(recorder._waiting) <= 64
    await recorder.flush()
    assert (await _read(store, Period.DAY)).requests == 10_000
    assert 3600 - 60 - 512 <= (await _read(store, Period.HOUR)).requests <= 3600


async def test_more_deployments_than_there_is_room_for_are_all_counted(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock, max_tallies=16)
    for index in range(200):
        _predict(recorder, clock, name=f"dep_{index}")
    await recorder.flush()
    found = [await _read(store, Period.FIVE_MINUTES, name=f"dep_{index}") for index in range(200)]
    assert [tally.requests for tally in found] == [1] * 200


@given(st.lists(st.tuples(st.floats(0, 5000), st.sampled_from("abc")), max_size=60))
def test_widening_slots_keeps_every_count_and_dates_none_later(steps: list[tuple[float, str]]) -> None:
    clock = Clock()
    recorder = Recorder(cast(Any, None), clock=clock, max_tallies=8)
    begun: dict[str, list[float]] = {}
    for pause, name in steps:
        clock.now += pause
        begun.setdefault(name, []).append(clock.now)
        _predict(recorder, clock, 0.0, name=name)
    assert len(recorder._waiting) <= 8
    for name, times in begun.items():
        kept = [counted for counted in recorder._waiting.values() if counted.served.deployment == name]
        assert sum(counted.tally.requests for counted in kept) == len(times)
        assert {counted.since for counted in kept} <= set(times)


async def test_counts_leave_by_themselves_even_after_a_flush_that_failed(store: FailingStore) -> None:
    recorder, added = Recorder(store), asyncio.Event()
    attempts = 0
    add = store.add

    async def failing_at_first(*arguments: Any) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise PlatformError("unavailable")
        is_new = await add(*arguments)
        added.set()
        return is_new

    store.add = failing_at_first  # type: ignore[method-assign, assignment]
    _predict(recorder, Clock())
    flushing = asyncio.create_task(recorder.keep_flushing())
    await asyncio.wait_for(added.wait(), 60)
    flushing.cancel()
    await asyncio.wait({flushing})
    assert attempts == 2


async def test_closing_sends_the_rest_and_gives_up_on_a_redis_that_is_away(store: FailingStore) -> None:
    clock = Clock()
    recorder = Recorder(store, clock=clock)
    _predict(recorder, clock)
    store.is_away = True
    await recorder.close()
    assert (await _read(store)).requests == 0
    store.is_away = False
    await recorder.close()
    assert (await _read(store)).requests == 1
