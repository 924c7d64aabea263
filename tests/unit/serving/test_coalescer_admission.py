"""Who may join the queue of a deployment, who is refused, and who waits for a first replica."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from fyretoolkit.core.errors import PlatformError
from tests.support.coalescing import (
    BATCH,
    ROUTE,
    SETTINGS,
    Bench,
    request,
    values,
)

pytestmark = pytest.mark.anyio


async def test_light_traffic_says_nothing_of_what_could_be_done(bench: Bench) -> None:
    """Calls of one row, with nothing waiting: the warm-up's figure stays."""
    fast = replace(ROUTE, rows_per_s=100_000.0)
    bench.route = fast
    bench.replicas.is_open.set()
    for _ in range(20):
        await values(bench.send(request(1.0)))
    assert bench.coalescer._gate.rate.per_s == 100_000


async def test_calls_that_end_without_an_answer_lower_the_rate() -> None:
    """A model that has become slow is not sent as much as before for ever."""
    bench = Bench(route=replace(ROUTE, rows_per_s=1000.0))
    for _ in range(3):
        tasks = [bench.send(request(1.0, timeout_ms=20)) for _ in range(20)]
        for task in tasks:
            with pytest.raises(PlatformError):
                await task
    await bench.settle()
    assert (bench.coalescer._gate.rate.per_s or 0) < 500
    bench.replicas.is_open.set()
    assert await values(bench.send(request(1.0))) == [b"2"]
    await bench.coalescer.close()


async def test_a_first_call_without_an_answer_does_not_open_the_queue_to_everybody(bench: Bench) -> None:
    """Nor close it: some wait, and what waited is answered once the model is fast."""
    for _ in range(2):
        with pytest.raises(PlatformError):
            await bench.send(request(1.0, timeout_ms=100))
    tasks = [bench.send(request(1.0)) for _ in range(90)]
    await bench.settle()
    refused = [task for task in tasks if task.done()]
    assert {cast(PlatformError, task.exception()).code for task in refused} == {"overloaded"}
    assert 50 <= len(refused) <= 80
    bench.replicas.is_open.set()
    for task in tasks:
        if task not in refused:
            await values(task)
    for task in [bench.send(request(2.0)) for _ in range(20)]:
        assert await values(task) == [b"4"]


async def test_who_fills_the_queue_fills_it_for_their_own(bench: Bench) -> None:
    """Bytes and requests alike."""
    held = await bench.fill()
    large = bench.send(request(1.0, size=990))
    await bench.settle()
    with pytest.raises(PlatformError, match="busy"):
        await bench.send(request(1.0, size=100))
    other = bench.send(request(1.0, size=100, org="org_b"))
    await bench.settle()
    bench.replicas.is_open.set()
    for task in (*held, large, other):
        await values(task)


async def test_a_full_queue_refuses_at_once(bench: Bench) -> None:
    held = await bench.fill()
    tasks = [bench.send(request(1.0)) for _ in range(SETTINGS.max_queued)]
    await bench.settle()
    with pytest.raises(PlatformError) as caught:
        await bench.send(request(1.0))
    assert caught.value.code == "overloaded"
    assert caught.value.retry_after_s is not None
    bench.replicas.is_open.set()
    for task in (*held, *tasks):
        await values(task)


async def test_bytes_fill_a_queue_too(bench: Bench) -> None:
    held = await bench.fill()
    large = bench.send(request(1.0, size=900))
    await bench.settle()
    with pytest.raises(PlatformError, match="busy"):
        await bench.send(request(1.0, size=200))
    bench.replicas.is_open.set()
    for task in (*held, large):
        await values(task)
    assert await values(bench.send(request(1.0, size=200))) == [b"2"]


async def test_an_expired_request_makes_room(bench: Bench) -> None:
    held = await bench.fill()
    late = bench.send(request(1.0, size=900, timeout_ms=30))
    with pytest.raises(PlatformError, match="not ready within"):
        await late
    fits = bench.send(request(1.0, size=900))
    bench.replicas.is_open.set()
    for task in (*held, fits):
        await values(task)


async def test_who_would_wait_too_long_is_refused_and_others_are_not(bench: Bench) -> None:
    """The service is known to be slow, and one organization has filled its share: another still enters."""
    bench.coalescer._gate.rate.note(10, began=0.0, ended=1.0)
    held = await bench.fill()
    accepted, refused = [], 0
    for _ in range(40):
        task = bench.send(request(1.0))
        await bench.settle()
        if task.done():
            refused += 1
            assert cast(PlatformError, task.exception()).code == "overloaded"
        else:
            accepted.append(task)
    assert refused > 10
    assert len(accepted) >= BATCH
    other = bench.send(request(2.0, org="org_b"))
    await bench.settle()
    assert not other.done()
    bench.replicas.is_open.set()
    for task in (*held, *accepted, other):
        await values(task)


async def test_who_would_be_refused_learns_it_before_anything_is_done_for_them(bench: Bench) -> None:
    """The organization that fills the queue, and not another."""
    bench.coalescer._gate.rate.note(10, began=0.0, ended=1.0)
    held = await bench.fill()
    assert bench.coalescer.refusal(ROUTE, "org_a", 1.0, size=1, left_s=10) is None
    tasks = [bench.send(request(1.0)) for _ in range(60)]
    await bench.settle()
    found = bench.coalescer.refusal(ROUTE, "org_a", 1.0, size=1, left_s=10)
    assert found is not None
    error = bench.coalescer.refuse(found)
    assert (error.code, error.retry_after_s is not None) == ("overloaded", True)
    assert bench.coalescer.refusal(ROUTE, "org_b", 1.0, size=1, left_s=10) is None
    bench.replicas.is_open.set()
    for task in held + [task for task in tasks if not (task.done() and task.exception())]:
        await values(task)


async def test_a_deployment_that_sleeps_is_not_busy() -> None:
    """However slow its model is: who calls waits for the first replica, not for the model."""
    bench = Bench(route=replace(ROUTE, replicas=0, rows_per_s=1.0))
    tasks = [bench.send(request(1.0)) for _ in range(30)]
    await bench.settle()
    assert not any(task.done() for task in tasks)
    await bench.coalescer.close()
    for task in tasks:
        assert cast(PlatformError, task.exception()).code == "unavailable"


async def test_a_burst_on_a_new_deployment_is_held_to_what_its_warm_up_measured() -> None:
    """Nothing was answered yet, and still not everybody is let in to wait."""
    bench = Bench(route=replace(ROUTE, max_batch_size=1, rows_per_s=4.0))
    tasks = [bench.send(request(1.0)) for _ in range(50)]
    await bench.settle()
    refused = [task for task in tasks if task.done()]
    assert {cast(PlatformError, task.exception()).code for task in refused} == {"overloaded"}
    assert 40 <= len(refused) <= 48
    bench.replicas.is_open.set()
    for task in tasks:
        if task not in refused:
            await values(task)


async def test_refused_callers_get_appointments_one_after_another(bench: Bench) -> None:
    bench.coalescer._gate.rate.note(2, began=0.0, ended=1.0)
    held = await bench.fill()
    tasks = [bench.send(request(1.0)) for _ in range(60)]
    await bench.settle()
    refusals = [cast(PlatformError, task.exception()) for task in tasks if task.done()]
    seconds = [error.retry_after_s or 0 for error in refusals]
    assert seconds[:20] == sorted(seconds[:20])
    assert len(set(seconds)) > 5
    assert max(seconds) <= SETTINGS.max_retry_after_s
    bench.replicas.is_open.set()
    for task in held + [task for task in tasks if not task.done()]:
        await values(task)


async def test_at_zero_replicas_one_call_wakes_for_all() -> None:
    bench = Bench(route=replace(ROUTE, replicas=0))
    bench.replicas.is_open.set()
    tasks = [bench.send(request(float(n))) for n in range(20)]
    await bench.settle()
    more = [bench.send(request(float(n))) for n in range(20, 30)]
    await bench.settle()
    assert (bench.replicas.wakes, bench.replicas.calls) == (1, [])
    bench.replicas.is_awake.set()
    for number, task in enumerate(tasks + more):
        assert await values(task) == [b"%d" % (2 * number)]
    assert bench.replicas.wakes == 1


async def test_while_it_wakes_deadlines_hold() -> None:
    bench = Bench(route=replace(ROUTE, replicas=0))
    with pytest.raises(PlatformError) as caught:
        await bench.send(request(1.0, timeout_ms=30))
    assert (caught.value.code, caught.value.retry_after_s) == ("unavailable", 1)
    assert "the first is still starting" in caught.value.message
    await bench.coalescer.close()
