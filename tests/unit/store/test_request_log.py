"""The log of reads and writes, on a real Redis with a clock of our own."""

from __future__ import annotations

from math import ceil

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyretoolkit.core.limits import Category, LogAnswer, Standing, standing_in_log
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.limits import LimitStore
from tests.support.manual_redis import ManualClock, run_manually

WINDOW_S = 60
_PROPERTY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STEPS = st.sampled_from([0.0, 0.0, 0.000_001, 0.05, 0.4, 2.5, 5.0, 17.3, 59.999_999, 60.0, 61.0])


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


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

    run_manually(redis_url, scenario)


def test_a_log_holds_one_window_and_expires(redis_url: str) -> None:
    """It never grows beyond the limit, and goes with the last request in it."""

    async def scenario(store: Store, clock: ManualClock) -> None:
        log = keys.request_log("org_a", "key_a", Category.READ)
        for _ in range(50):
            await _read(store, 7)
            await clock.advance(3)
        assert await store.redis.llen(log) <= 7  # type: ignore[misc]
        assert 0 < await store.redis.pttl(log) <= WINDOW_S * 1000

    run_manually(redis_url, scenario)


def test_logs_carry_organization_and_key(redis_url: str) -> None:
    """Two organizations never share a count, nor do the two categories of a key."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:

        async def scenario(store: Store, clock: ManualClock) -> None:
            limits = LimitStore(store, WINDOW_S)
            for org in ("org_a", "org_b"):
                for category in (Category.READ, Category.WRITE):
                    answer = await limits.log(org, "key_a", category, 5)
                    assert answer.counted == 1

        run_manually(redis_url, scenario)
        found = {key for key in client.keys("fyre:*") if isinstance(key, str)}
    assert found == {
        f"fyre:org:{org}:limits:key_a:{kind}" for org in ("org_a", "org_b") for kind in ("read", "write")
    }
