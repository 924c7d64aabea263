"""Metrics in the real Redis: what was added is what is read, once, in the bucket of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fyretoolkit.core.metrics import LONGEST_KEPT_S, Period, Tally
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.metrics import MetricsStore, Traffic, from_json, to_json

ORG, DEPLOYMENT = "org_a", "dep_01J00000000000000000000000"
WithStore = Callable[[Callable[[Store], Any]], Any]


def _tally(*totals_ms: float, canceled: int = 0, errors: tuple[str, ...] = ()) -> Tally:
    tally = Tally(canceled=canceled)
    for total_ms in totals_ms:
        tally.add_answer(total_ms=total_ms, queue_ms=total_ms / 2, compute_ms=0.0, inputs=3, batch_rows=8)
    for code in errors:
        tally.add_error(code)
    return tally


def _traffic(tally: Tally, age_s: float = 0.0, deployment: str = DEPLOYMENT) -> list[Traffic]:
    return [Traffic(ORG, deployment, age_s, tally)]


async def _read(metrics: MetricsStore, period: Period = Period.HOUR, deployment: str = DEPLOYMENT) -> Tally:
    return Tally.union(await metrics.read(ORG, deployment, await metrics.window(period)))


_TALLIES = st.builds(
    _tally,
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    canceled=st.integers(0, 1000),
    errors=st.lists(st.sampled_from(["invalid_input", "overloaded"]), max_size=4).map(tuple),
)


@given(_TALLIES)
def test_a_tally_survives_its_encoding(tally: Tally) -> None:
    assert from_json(to_json(tally).decode()) == tally


@given(st.lists(_TALLIES, min_size=1, max_size=5))
@hypothesis_settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_redis_adds_as_we_do(with_store: WithStore, tallies: list[Tally]) -> None:
    async def scenario(store: Store) -> Tally:
        await store.redis.flushall()
        metrics = MetricsStore(store)
        for number, tally in enumerate(tallies, start=1):
            await metrics.add("rec_a", number, _traffic(tally))
        return await _read(metrics)

    found, expected = with_store(scenario), Tally.union(tallies)
    for name in ("total", "queue", "compute"):
        ours, theirs = getattr(expected, name), getattr(found, name)
        assert theirs.counts == ours.counts
        assert (theirs.sum, theirs.max) == (pytest.approx(ours.sum), pytest.approx(ours.max))
    assert (found.errors, found.canceled) == (expected.errors, expected.canceled)
    assert (found.inputs, found.batch_rows) == (expected.inputs, expected.batch_rows)


def test_a_batch_that_is_sent_again_is_counted_once(with_store: WithStore) -> None:
    async def scenario(store: Store) -> tuple[list[bool], int]:
        metrics = MetricsStore(store)
        batches = (1, 1, 2, 1, 2)
        added = [await metrics.add("rec_a", number, _traffic(_tally(5.0))) for number in batches]
        return added, (await _read(metrics)).requests

    assert with_store(scenario) == ([True, False, True, False, False], 2)


def test_recorders_count_their_batches_apart(with_store: WithStore) -> None:
    async def scenario(store: Store) -> int:
        metrics = MetricsStore(store)
        for recorder in ("rec_a", "rec_b"):
            assert await metrics.add(recorder, 1, _traffic(_tally(5.0)))
        return (await _read(metrics)).requests

    assert with_store(scenario) == 2


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        (0, {"5m", "1h", "24h", "7d"}),
        (290, {"5m", "1h", "24h", "7d"}),
        (400, {"1h", "24h", "7d"}),
        (3500, {"1h", "24h", "7d"}),
        (4000, {"24h", "7d"}),
        (85_000, {"24h", "7d"}),
        (90_000, {"7d"}),
        (590_000, {"7d"}),
        (700_000, set()),
    ],
)
def test_traffic_shows_in_the_periods_it_happened_in(
    with_store: WithStore, age_s: float, shown: set[str]
) -> None:
    async def scenario(store: Store) -> set[str]:
        metrics = MetricsStore(store)
        await metrics.add("rec_a", 1, _traffic(_tally(5.0), age_s))
        return {period.value for period in Period if (await _read(metrics, period)).requests}

    assert with_store(scenario) == shown


def test_traffic_lies_in_the_bucket_of_its_time(with_store: WithStore) -> None:
    async def scenario(store: Store) -> tuple[int, list[int]]:
        metrics = MetricsStore(store)
        window = await metrics.window(Period.HOUR)
        middle = window.starts[30] + 30
        age_s = await store.now_ms() / 1000 - middle
        await metrics.add("rec_a", 1, _traffic(_tally(5.0, 6.0), age_s))
        tallies = await metrics.read(ORG, DEPLOYMENT, window)
        return 30, [index for index, tally in enumerate(tallies) if tally.requests]

    index, found = with_store(scenario)
    assert found == [index]


def test_deployments_are_told_apart_in_one_batch(with_store: WithStore) -> None:
    other = DEPLOYMENT[:-1] + "1"

    async def scenario(store: Store) -> tuple[int, int]:
        metrics = MetricsStore(store)
        both = [*_traffic(_tally(5.0)), *_traffic(_tally(5.0, 6.0), deployment=other)]
        await metrics.add("rec_a", 1, both)
        return (await _read(metrics)).requests, (await _read(metrics, deployment=other)).requests

    assert with_store(scenario) == (1, 2)


def test_every_key_expires_when_no_window_can_hold_it(with_store: WithStore) -> None:
    async def scenario(store: Store) -> dict[str, int]:
        await MetricsStore(store).add("rec_a", 1, _traffic(_tally(5.0)))
        names = [key async for key in store.redis.scan_iter("*")]
        return {name: await store.redis.ttl(name) for name in names}

    lives = with_store(scenario)
    assert lives.pop(keys.recorder("rec_a")) in (LONGEST_KEPT_S, LONGEST_KEPT_S - 1)
    assert len(lives) == len(Period)
    by_bucket = {int(name.split(":")[-2]): life for name, life in lives.items()}
    for period in Period:
        assert period.length_s <= by_bucket[period.bucket_s] <= period.kept_s  # TTL rounds
