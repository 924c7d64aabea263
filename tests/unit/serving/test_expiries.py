"""Deadlines of requests, many to one timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from fyretoolkit.serving.expiries import Expiries
from fyretoolkit.serving.joining import Request
from tests.support.coalescing import request

pytestmark = pytest.mark.anyio


class Ended:
    """The requests that were ended, with the moment at which each was."""

    def __init__(self) -> None:
        self.at: dict[Request, float] = {}
        self.expiries = Expiries(self._note)

    def _note(self, wanted: Request) -> None:
        self.at[wanted] = time.monotonic()

    async def all_of(self, wanted: list[Request]) -> None:
        async with asyncio.timeout(30):
            while len(self.at) < len(wanted):  # noqa: ASYNC110 - what is looked at announces nothing
                await asyncio.sleep(0.002)


@pytest.fixture
async def ended() -> AsyncIterator[Ended]:
    made = Ended()
    yield made
    made.expiries.close()


async def test_each_ends_at_its_deadline_and_never_before(ended: Ended) -> None:
    wanted = [request(1.0, timeout_ms=milliseconds) for milliseconds in (1, 15, 15, 40)]
    for each in wanted:
        ended.expiries.add(each)
    await ended.all_of(wanted)
    assert set(ended.at) == set(wanted)
    assert all(at >= each.deadline.ends_at for each, at in ended.at.items())


async def test_one_that_was_answered_is_not_ended_nor_kept(ended: Ended) -> None:
    answered, late = request(1.0, timeout_ms=20), request(2.0, timeout_ms=20)
    for each in (answered, late):
        ended.expiries.add(each)
    for _ in range(2):
        ended.expiries.discard(answered)
    await ended.all_of([late])
    assert list(ended.at) == [late]
    assert answered.ending_with is None


async def test_a_deadline_that_passed_already_ends_at_once(ended: Ended) -> None:
    late = request(1.0, timeout_ms=1)
    late.deadline.ends_at = time.monotonic() - 5
    ended.expiries.add(late)
    await ended.all_of([late])


async def test_many_share_a_timer(ended: Ended) -> None:
    """Thousands of deadlines are no thousands of timers."""
    wanted = [request(1.0, timeout_ms=50) for _ in range(500)]
    for each in wanted:
        ended.expiries.add(each)
    assert len(ended.expiries._timers) < 100
    await ended.all_of(wanted)
    assert not ended.expiries._timers


async def test_after_the_end_nothing_is_ended(ended: Ended) -> None:
    ended.expiries.add(request(1.0, timeout_ms=1))
    ended.expiries.close()
    await asyncio.sleep(0.03)
    assert not ended.at
