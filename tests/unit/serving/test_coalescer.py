"""Joining requests into calls: who travels with whom, who is refused, and what becomes of those whose call fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Principal
from fyretoolkit.models.readers import Stacked
from fyretoolkit.serving.coalescer import Coalescer
from fyretoolkit.serving.deadlines import Deadline
from fyretoolkit.serving.joining import Request, Share
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaLostError
from fyretoolkit.serving.routing import Route
from fyretoolkit.settings import ServingSettings

pytestmark = pytest.mark.anyio

BATCH = 8
POISON = -1.0
KILLER = -2.0
BAD_ROW = -3.0


@dataclass
class Replicas:
    """Doubles every row. A call waits until it is let go, and fails as a poisonous row in it says."""

    calls: list[list[float]] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    wakes: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    is_awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> ReplicaAnswer:
        assert application == "dep_a"
        rows = arrays["x"].reshape(len(arrays["x"]), -1)[:, 0].tolist()
        self.calls.append(rows)
        self.loads.append(load)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with asyncio.timeout(timeout_s):
                await self.is_open.wait()
        except TimeoutError:
            raise PlatformError("deadline_exceeded") from None
        finally:
            self.running -= 1
        if KILLER in rows:
            raise ReplicaLostError
        if POISON in rows:
            raise RuntimeError("the call cannot be made")
        kept = [index for index, row in enumerate(rows) if row != BAD_ROW]
        failed = {index: "it is bad" for index, row in enumerate(rows) if row == BAD_ROW}
        return ReplicaAnswer([b"%g" % (2 * rows[index]) for index in kept], kept, failed, 1.0)

    async def wake(self, application: str, timeout_s: float) -> None:
        assert (application, timeout_s) == ("dep_a", SETTINGS.wake_timeout_s)
        self.wakes += 1
        await self.is_awake.wait()

    async def forget(self, applications: frozenset[str]) -> None:
        raise AssertionError(applications)


SETTINGS = ServingSettings(max_wait_s=1.0, max_queued=100, max_queued_bytes=1000, call_s=1e-9)
ROUTE = Route("dep_a", "org_a", "m", "us-east-1", 100, "sha", cast(Any, Stacked()), BATCH, 1)


def principal(org: str = "org_a") -> Principal:
    return Principal(org, "key_a", frozenset(), "free")


def request(*rows: float, org: str = "org_a", timeout_ms: int = 60_000, **fields: Any) -> Request:
    """A request of these rows."""
    array = np.array([[row] for row in rows])
    is_abandoned: Callable[[], bool] = fields.pop("is_abandoned", lambda: False)
    array = array.repeat(fields.pop("width", 1), axis=1)
    return Request(
        arrays={"x": array},
        rows=len(rows),
        shape=array.shape[1:],
        size=fields.pop("size", 1),
        principal=principal(org),
        deadline=Deadline(timeout_ms),
        is_abandoned=is_abandoned,
    )


class Bench:
    """A coalescer over replicas that wait."""

    def __init__(self, settings: ServingSettings = SETTINGS, route: Route = ROUTE) -> None:
        self.replicas = Replicas()
        self.coalescer = Coalescer("dep_a", self.replicas, settings, source="ing_a", draw=lambda: 0.0)
        self.route = route

    def send(self, wanted: Request) -> asyncio.Task[Share]:
        return asyncio.create_task(self.coalescer.run(self.route, wanted))

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def fill(self) -> list[asyncio.Task[Share]]:
        """Both calls that may be in flight, held by the replicas."""
        tasks = []
        for number in range(SETTINGS.calls_per_replica):
            tasks.append(self.send(request(1000.0 + number)))
            await self.settle()
        assert self.replicas.running == SETTINGS.calls_per_replica
        return tasks


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.coalescer.close()
    assert made.coalescer.is_idle


async def values(task: asyncio.Task[Share]) -> list[bytes]:
    share = await asyncio.wait_for(task, 5)
    return list(share.results)


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
    assert (bench.coalescer.waiting, bench.coalescer._bytes) == (0, {})


async def test_answers_that_are_too_few_are_nobodys(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Rows of one caller never get another's results."""

    async def too_few(*_: object) -> ReplicaAnswer:
        return ReplicaAnswer([b"1"], [0], {}, 1.0)

    monkeypatch.setattr(bench.coalescer, "_call", too_few)
    with pytest.raises(PlatformError) as caught:
        await bench.send(request(1.0, 2.0))
    assert caught.value.code == "internal_error"


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
    assert bench.replicas.loads[2].queued == 20 - 2 * BATCH
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


async def test_a_deployment_that_goes_fails_what_waits() -> None:
    bench = Bench()
    held = await bench.fill()
    waiting = bench.send(request(1.0))
    await bench.settle()
    await bench.coalescer.close()
    for task in (waiting, *held):
        with pytest.raises(PlatformError) as caught:
            await asyncio.wait_for(task, 5)
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
