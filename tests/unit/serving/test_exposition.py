"""What an ingress shows a scraper, over a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import Served
from fyretoolkit.core.metrics import Tally
from fyretoolkit.serving.exposition import AT_ONCE, TURNS, Exposition
from fyretoolkit.serving.recording import Recorder
from fyretoolkit.serving.routing import Route
from fyretoolkit.store.connection import Store
from fyretoolkit.store.metrics import MetricsStore, Traffic

pytestmark = pytest.mark.anyio
A, B = Served("dep_a", "m", "r"), Served("dep_b", "m", "r")


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


class Shown:
    """What was set since it was last cleared, as an exporter keeps it."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self.values[name, *labels.values()] = value

    def ok(self, served: Served) -> float | None:
        return self.values.get(("fyre_predictions_total", *served, "ok", "200"))


class LeavingStore(MetricsStore):
    """Redis that is away."""

    is_away = False

    async def add(self, recorder: str, batch: int, traffic: Sequence[Traffic]) -> bool:
        if self.is_away:
            raise PlatformError("unavailable")
        return await super().add(recorder, batch, traffic)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[LeavingStore]:
    connection = Store(redis_url)
    yield LeavingStore(connection)
    await connection.close()


def _route(served: Served) -> Route:
    """Of a route, recording asks where it leads, and nothing else."""
    return Route(
        deployment=served.deployment,
        org="org_a",
        model=served.model,
        region=served.region,
        traffic=100,
        artifact="",
        codec=cast(Any, None),
        max_batch_size=8,
        replicas=1,
    )


def _predict(recorder: Recorder, served: Served = A) -> None:
    with recorder.begin() as outcome:
        outcome.routed(_route(served), 2)
        outcome.calls_ms, outcome.compute_ms, outcome.batch_size = 3.0, 1.0, 8
        outcome.answered()


def _ok(count: int) -> Tally:
    tally = Tally()
    for _ in range(count):
        tally.add_answer(total_ms=1.0, queue_ms=0.0, compute_ms=1.0, inputs=1, batch_rows=1)
    return tally


async def test_what_is_flushed_and_what_waits_is_shown_together(store: LeavingStore) -> None:
    """Once each, however often it is shown."""
    shown = Shown()
    recorder = Recorder(store, Exposition(shown))
    _predict(recorder)
    await recorder.flush()
    _predict(recorder)
    recorder.publish(is_redis_up=True)
    assert shown.ok(A) == 2
    await recorder.flush()
    recorder.publish(is_redis_up=True)
    assert shown.ok(A) == 2
    assert shown.values["fyre_ingress_redis_up",] == 1


async def test_predictions_are_shown_while_redis_is_away(store: LeavingStore) -> None:
    """That is when an operator looks. Once it is back, none is counted twice."""
    shown = Shown()
    exposition = Exposition(shown)
    recorder = Recorder(store, exposition)
    store.is_away = True
    for count in (1, 2, 3):
        _predict(recorder)
        exposition.count_degraded()
        with pytest.raises(PlatformError):
            await recorder.flush()
        recorder.publish(is_redis_up=False)
        assert shown.ok(A) == count
    assert shown.values["fyre_ingress_redis_up",] == 0
    assert shown.values["fyre_predictions_without_redis_total",] == 3
    store.is_away = False
    await recorder.flush()
    recorder.publish(is_redis_up=True)
    assert shown.ok(A) == 3


async def test_the_recorder_shows_at_each_flush(store: LeavingStore) -> None:
    """With Redis or without."""
    shown, told = Shown(), asyncio.Event()

    class Telling(Exposition):
        def publish(self, *arguments: Any, **options: Any) -> None:
            super().publish(*arguments, **options)
            told.set()

    store.is_away = True
    recorder = Recorder(store, Telling(shown))
    _predict(recorder)
    flushing = asyncio.create_task(recorder.keep_flushing())
    async with asyncio.timeout(30):
        await told.wait()
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    assert shown.ok(A) == 1
    assert shown.values["fyre_ingress_redis_up",] == 0


async def test_an_exporter_that_fails_keeps_no_flush_from_happening(
    store: LeavingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log, and no more."""

    class Broken(Shown):
        def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
            raise ValueError("no exporter")

    recorder = Recorder(store, Exposition(Broken()))
    _predict(recorder)
    recorder.publish(is_redis_up=True)
    assert "Metrics cannot be shown" in caplog.text
    await recorder.flush()


def test_a_deleted_deployment_is_shown_no_more() -> None:
    """Neither from then on, nor by a count that comes late."""
    shown = Shown()
    exposition = Exposition(shown)
    exposition.add(A, _ok(1))
    exposition.add(B, _ok(1))
    exposition.keep_only({B.deployment})
    exposition.add(A, _ok(1))
    for _ in range(8):
        exposition.publish((), is_redis_up=True)
    assert shown.ok(A) is None
    assert shown.ok(B) == 1


def test_what_does_not_change_is_told_again_within_eight_turns() -> None:
    """Ray forgets what it is not told; what changes is told at once."""
    shown = Shown()
    exposition = Exposition(shown)
    deployments = [A, *(Served(f"dep_{number}", "m", "r") for number in range(40))]
    for each in deployments:
        exposition.add(each, _ok(1))
    for _ in range(TURNS):
        exposition.publish((), is_redis_up=True)
    assert all(shown.ok(each) == 1 for each in deployments)
    shown.values.clear()
    for count in range(TURNS):
        exposition.add(A, _ok(1))
        exposition.publish((), is_redis_up=True)
        assert shown.ok(A) == 2 + count
    assert all(shown.ok(each) is not None for each in deployments)


def test_one_turn_tells_a_few_however_many_changed() -> None:
    """The loop that tells is the one that predicts: 0.3 ms a deployment. The others follow in the next turns."""
    deployments = [Served(f"dep_{number}", "m", "r") for number in range(80)]
    shown = Shown()
    exposition = Exposition(shown)
    for turn in range(1, TURNS + 1):
        for each in deployments:
            exposition.add(each, _ok(1))
        shown.values.clear()
        exposition.publish((), is_redis_up=True)
        told = {each for each in deployments if shown.ok(each) == turn}
        assert 1 <= len(told) <= AT_ONCE + len(deployments) // TURNS
    shown.values.clear()
    for _ in range(TURNS):
        exposition.publish((), is_redis_up=True)
    assert all(shown.ok(each) == TURNS for each in deployments)


def test_there_are_no_more_series_than_are_allowed() -> None:
    """Deployments beyond are shown as one, and nothing of them is lost; their queues too."""
    shown = Shown()
    late = [Served(f"dep_{number}", "m", "r") for number in range(5)]
    exposition = Exposition(shown, lambda: [(A, 1), *((each, 2) for each in late)], max_deployments=2)
    exposition.add(A, _ok(1))
    exposition.add(B, _ok(1))
    for each in late:
        exposition.add(each, _ok(2))
    exposition.publish([(late[0], _ok(3))], is_redis_up=True)
    names = {key[1] for key in shown.values if key[0] == "fyre_predictions_total"}
    assert names == {"dep_a", "dep_b", "other"}
    assert shown.ok(Served("other", "other", "other")) == 13
    assert shown.values["fyre_prediction_queue_length", *A] == 1
    assert shown.values["fyre_prediction_queue_length", "other", "other", "other"] == 10
