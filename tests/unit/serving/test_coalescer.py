"""Joining requests into calls: who travels with whom, and what becomes of those whose call fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.replica import ReplicaAnswer
from tests.support.coalescing import (
    BAD_ROW,
    BATCH,
    KILLER,
    POISON,
    ROUTE,
    SETTINGS,
    Bench,
    request,
    values,
)

pytestmark = pytest.mark.anyio


async def test_a_request_on_its_own_waits_for_nobody(bench: Bench) -> None:
    bench.replicas.is_open.set()
    assert await values(bench.send(request(1, 2))) == [b"2", b"4"]
    assert bench.replicas.calls == [[1, 2]]


async def test_what_arrives_while_calls_are_in_flight_travels_together(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(float(n))) for n in range(5)]
    await bench.settle()
    assert len(bench.replicas.calls) == 2
    bench.replicas.is_open.set()
    assert [await values(task) for task in tasks] == [[b"0"], [b"2"], [b"4"], [b"6"], [b"8"]]
    assert bench.replicas.calls[2] == [0, 1, 2, 3, 4]
    shares = [await task for task in tasks]
    assert {share.batch_size for share in shares} == {5}
    assert [await values(task) for task in held] == [[b"2000"], [b"2002"]]


async def test_the_next_call_leaves_before_the_answers_of_the_last_are_given() -> None:
    """A replica does not wait for the ingress to write: its time is what is short."""
    bench = Bench(SETTINGS.model_copy(update={"calls_per_replica": 1}))
    first, second = request(1.0), request(2.0)
    calls_at_answer: list[int] = []
    first.answered = lambda _: calls_at_answer.append(bench.coalescer._calls)
    bench.coalescer.submit(ROUTE, first)
    await bench.settle()
    waiting = bench.send(second)
    await bench.settle()
    bench.replicas.is_open.set()
    assert await values(waiting) == [b"4"]
    assert calls_at_answer == [1]


async def test_who_cannot_take_an_answer_harms_no_neighbour(bench: Bench) -> None:
    def broken(_: object) -> None:
        raise OSError("the connection is broken")

    held = await bench.fill()
    unlucky = request(1.0)
    unlucky.answered = broken
    bench.coalescer.submit(ROUTE, unlucky)
    neighbour = bench.send(request(2.0))
    bench.replicas.is_open.set()
    assert await values(neighbour) == [b"4"]
    for task in held:
        await values(task)
    assert bench.coalescer.is_idle


@pytest.mark.parametrize("rows", [(1.0, 2.0), (KILLER, 2.0), (POISON, 2.0)])
async def test_a_coalescer_that_closes_answers_everybody(rows: tuple[float, float]) -> None:
    """Those whose call is ended, and those whose call ends badly in the same moment: none is left to wait for ever."""
    bench = Bench(SETTINGS.model_copy(update={"calls_per_replica": 1}))
    tasks = [bench.send(request(row)) for row in rows]
    await bench.settle()
    assert bench.replicas.calls == [list(rows)]
    if rows[0] < 0:
        bench.replicas.is_open.set()
        await asyncio.sleep(0)
    await bench.coalescer.close()
    for task in tasks:
        with pytest.raises(PlatformError) as caught:
            await asyncio.wait_for(task, 30)
        assert caught.value.code in ("unavailable", "internal_error")
    assert bench.coalescer.is_idle


async def test_a_request_in_parts_knows_them_no_longer_once_it_is_answered(bench: Bench) -> None:
    bench.replicas.is_open.set()
    large = request(*[float(n) for n in range(20)])
    await bench.send(large)
    assert large.parts == ()


async def test_what_arrives_in_one_turn_of_the_loop_travels_together(bench: Bench) -> None:
    bench.replicas.is_open.set()
    tasks = [bench.send(request(float(n))) for n in range(4)]
    for task in tasks:
        await values(task)
    assert bench.replicas.calls == [[0, 1, 2, 3]]


async def test_a_call_holds_no_more_rows_than_an_inference_takes(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(*[float(n)] * 3)) for n in range(5)]
    large = bench.send(request(*[9.0] * 20))
    bench.replicas.is_open.set()
    for task in (*held, *tasks, large):
        await values(task)
    assert [len(rows) for rows in bench.replicas.calls[2:]] == [6, 6, 3, 8, 8, 4]
    assert bench.replicas.most_running == SETTINGS.calls_per_replica


async def test_more_replicas_take_more_calls() -> None:
    bench = Bench(route=replace(ROUTE, replicas=3))
    tasks = []
    for number in range(10):
        tasks.append(bench.send(request(float(number))))
        await bench.settle()
    assert bench.replicas.running == 3 * SETTINGS.calls_per_replica
    bench.replicas.is_open.set()
    for task in tasks:
        await values(task)


async def test_shapes_that_differ_do_not_travel_together(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(float(n), width=1 + n // 2)) for n in range(4)]
    bench.replicas.is_open.set()
    for task in (*held, *tasks):
        await values(task)
    assert bench.replicas.calls[2:] == [[0, 1], [2, 3]]


async def test_organizations_take_turns(bench: Bench) -> None:
    held = await bench.fill()
    flood = [bench.send(request(float(n))) for n in range(30)]
    await bench.settle()
    other = bench.send(request(500.0, org="org_b"))
    bench.replicas.is_open.set()
    for task in (*held, *flood, other):
        await values(task)
    assert 500.0 in bench.replicas.calls[2]


async def test_a_large_request_gets_its_rows_in_their_places(bench: Bench) -> None:
    """It travels in parts; one row of the second fails."""
    bench.replicas.is_open.set()
    rows = [float(n) for n in range(20)]
    rows[10] = BAD_ROW
    share = await bench.send(request(*rows))
    assert list(share.kept) == [n for n in range(20) if n != 10]
    assert list(share.results) == [b"%d" % (2 * n) for n in range(20) if n != 10]
    assert dict(share.failed) == {10: "it is bad"}


async def test_a_large_request_lets_others_between_its_parts(bench: Bench) -> None:
    held = await bench.fill()
    large = bench.send(request(*[9.0] * 80))
    await bench.settle()
    other = bench.send(request(500.0, org="org_b"))
    bench.replicas.is_open.set()
    for task in (*held, large, other):
        await values(task)
    assert 500.0 in bench.replicas.calls[2] + bench.replicas.calls[3]


async def test_a_large_request_of_which_a_part_fails_is_ended_whole(bench: Bench) -> None:
    held = await bench.fill()
    large = bench.send(request(*[9.0] * 40, timeout_ms=50))
    with pytest.raises(PlatformError) as caught:
        await large
    assert caught.value.code == "deadline_exceeded"
    assert bench.coalescer.waiting == 0
    bench.replicas.is_open.set()
    for task in held:
        await values(task)


async def test_a_deadline_that_has_passed_already_leaves_nothing_behind(bench: Bench) -> None:
    """Decoding may take longer than there is time."""
    late = request(*[1.0] * 40, timeout_ms=1)
    await asyncio.sleep(0.01)
    with pytest.raises(PlatformError) as caught:
        await bench.send(late)
    assert caught.value.code == "deadline_exceeded"
    assert (bench.coalescer.waiting, bench.coalescer._room._bytes) == (0, {})


async def test_answers_that_are_too_few_are_nobodys(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Rows of one caller never get another's results."""

    async def too_few(*_: object) -> ReplicaAnswer:
        return ReplicaAnswer([b"1"], [0], {}, 1.0)

    monkeypatch.setattr(bench.coalescer, "_call", too_few)
    with pytest.raises(PlatformError) as caught:
        await bench.send(request(1.0, 2.0))
    assert caught.value.code == "internal_error"


async def test_a_closed_one_takes_nothing() -> None:
    bench = Bench()
    await bench.coalescer.close()
    with pytest.raises(PlatformError) as caught:
        await bench.send(request(1.0))
    assert caught.value.code == "unavailable"


async def test_the_replica_hears_how_long_the_queue_is(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(float(n))) for n in range(20)]
    bench.replicas.is_open.set()
    for task in (*held, *tasks):
        await values(task)
    assert {load.source for load in bench.replicas.loads} == {"ing_a"}
    assert bench.replicas.loads[0].queued == 0
    assert bench.replicas.loads[2].queued == 20 - BATCH
    assert bench.replicas.loads[-1].queued == 0


async def test_a_bad_row_is_its_own_requests_alone(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(1, BAD_ROW, 3)), bench.send(request(4, 5))]
    bench.replicas.is_open.set()
    first, second = [await task for task in tasks]
    assert (list(first.results), list(first.kept), dict(first.failed)) == (
        [b"2", b"6"],
        [0, 2],
        {1: "it is bad"},
    )
    assert (list(second.results), list(second.kept), dict(second.failed)) == ([b"8", b"10"], [0, 1], {})
    for task in held:
        await values(task)


async def test_a_call_that_fails_harms_only_who_made_it_fail(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(row)) for row in (1, POISON, 3)]
    bench.replicas.is_open.set()
    assert await values(tasks[0]) == [b"2"]
    assert await values(tasks[2]) == [b"6"]
    with pytest.raises(PlatformError) as caught:
        await tasks[1]
    assert caught.value.code == "internal_error"
    assert sorted(bench.replicas.calls[3:]) == [[POISON], [1], [3]]
    for task in held:
        await values(task)


async def test_a_replica_that_dies_fails_nobody_but_who_kills_twice(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(row)) for row in (1, KILLER, 3)]
    bench.replicas.is_open.set()
    assert await values(tasks[0]) == [b"2"]
    assert await values(tasks[2]) == [b"6"]
    with pytest.raises(PlatformError) as caught:
        await tasks[1]
    assert (caught.value.code, caught.value.retry_after_s) == ("unavailable", 1)
    assert bench.replicas.calls.count([KILLER]) == 1
    for task in held:
        await values(task)


async def test_a_call_that_nobody_wants_any_more_is_ended() -> None:
    """Its slot goes to the next; a call that somebody still wants goes on."""
    bench = Bench(SETTINGS.model_copy(update={"calls_per_replica": 1}))
    together = [bench.send(request(1.0)), bench.send(request(2.0))]
    await bench.settle()
    waiting = bench.send(request(3.0))
    together[0].cancel()
    await bench.settle()
    assert bench.replicas.calls == [[1, 2]]
    together[1].cancel()
    await bench.settle()
    assert bench.replicas.calls == [[1, 2], [3]]
    assert bench.replicas.running == 1
    bench.replicas.is_open.set()
    assert await values(waiting) == [b"6"]


async def test_a_call_that_is_ended_before_it_began_leaves_its_slot() -> None:
    """A task that is cancelled before its first step never sees it."""
    bench = Bench(SETTINGS.model_copy(update={"calls_per_replica": 1}))
    sent = bench.send(request(1.0))
    await asyncio.sleep(0)
    bench.coalescer._pump()
    (call,) = bench.coalescer._under_way
    call.cancel()
    with pytest.raises(PlatformError) as caught:
        await sent
    assert caught.value.code == "unavailable"
    assert (bench.replicas.calls, bench.coalescer.is_idle) == ([], True)
    bench.replicas.is_open.set()
    assert await values(bench.send(request(2.0))) == [b"4"]


async def test_a_deadline_that_passes_in_the_queue_is_not_run(bench: Bench) -> None:
    held = await bench.fill()
    late = bench.send(request(7.0, timeout_ms=30))
    with pytest.raises(PlatformError) as caught:
        await late
    assert caught.value.code == "deadline_exceeded"
    bench.replicas.is_open.set()
    for task in held:
        await values(task)
    await bench.settle()
    assert [7.0] not in bench.replicas.calls


async def test_who_has_gone_is_not_run(bench: Bench) -> None:
    held = await bench.fill()
    gone = bench.send(request(7.0, is_abandoned=lambda: True))
    there = bench.send(request(8.0))
    bench.replicas.is_open.set()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await values(there) == [b"16"]
    assert bench.replicas.calls[2:] == [[8.0]]
    for task in held:
        await values(task)


async def test_a_deployment_that_goes_fails_what_waits() -> None:
    bench = Bench()
    held = await bench.fill()
    waiting = bench.send(request(1.0))
    await bench.settle()
    await bench.coalescer.close()
    for task in (waiting, *held):
        with pytest.raises(PlatformError) as caught:
            await asyncio.wait_for(task, 30)
        assert caught.value.code == "unavailable"


async def test_a_caller_that_is_cancelled_leaves_the_queue(bench: Bench) -> None:
    held = await bench.fill()
    waiting = bench.send(request(7.0, size=900))
    await bench.settle()
    waiting.cancel()
    await bench.settle()
    other = bench.send(request(8.0, size=900))
    bench.replicas.is_open.set()
    for task in (*held, other):
        await values(task)
    assert [7.0] not in bench.replicas.calls
