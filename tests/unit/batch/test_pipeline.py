"""How a run's shards reach workers: here, in a pool, or both; and how failures come back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from batch import pipeline
from batch.attempts import Attempts
from batch.endings import decide_ending
from batch.joblog import read_events
from batch.pace import Pace
from batch.patience import patience_s
from batch.pipeline import ShardPool, is_pool_worth, run_shards
from batch.runs import Run, RunOverError, from_failure, is_final, to_failure
from batch.worker import ShardWorker
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.store.jobs import JobStore
from tests.unit.batch.bench import Bench, LengthModel

ROWS = b'"some text"\n' * 40
NEVER = threading.Event()

pytestmark = pytest.mark.anyio


async def run_of(bench: Bench) -> Run:
    """A staged run with eight shards or more, of which none is done."""
    job = await bench.create_job(ROWS)
    runs: list[Run] = []

    def capture(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        runs.append(run)
        raise OSError("captured")

    with pytest.raises(OSError, match="captured"):
        await bench.run(job, work=capture)
    assert len(runs[0].plan.shards) >= 8
    return runs[0]


async def committed(bench: Bench, run: Run) -> set[int]:
    """The shards in the output."""
    store = bench.store()
    shards = await JobStore(store, 60).committed(run.org, run.job_id)
    await store.close()
    return set(shards)


def worker_of(run: Run) -> ShardWorker:
    """A worker with the model of known answers."""
    return ShardWorker(run, load=lambda _: LengthModel(), is_niced=False)


@pytest.fixture
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker that the pipeline makes loads the model of known answers."""
    monkeypatch.setattr(pipeline, "ShardWorker", lambda run, **_: worker_of(run))


@pytest.mark.usefixtures("known_model")
async def test_a_small_job_starts_no_pool(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Two processes that import Ray Data would take longer than the work."""
    monkeypatch.setattr(pipeline, "pooled", None)
    run = await run_of(bench)
    shards = range(len(run.plan.shards))
    await bench.in_thread(run_shards, run, shards, NEVER)
    assert await committed(bench, run) == set(shards)


@pytest.mark.usefixtures("known_model")
async def test_runner_and_pool_share_the_shards(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The runner works in front while the pool starts, then waits for it; each shard is committed once.

    Both begin in front: progress and a partial output end at the first gap.
    """
    run = await run_of(bench)
    count = len(run.plan.shards)
    here_first = threading.Event()

    def slow_to_start(run: Run, shards: Sequence[int]) -> Iterator[pipeline.Item]:
        assert here_first.wait(60)
        worker = worker_of(run)
        for shard in shards:
            yield worker({"shard": np.array([shard])})
        worker.close()

    work = ShardWorker.work
    seen: list[int] = []

    def watched(self: ShardWorker, index: int) -> None:
        seen.append(index)
        work(self, index)
        if len(seen) == 3:
            here_first.set()

    monkeypatch.setattr(ShardWorker, "work", watched)
    monkeypatch.setattr(pipeline, "pooled", slow_to_start)
    monkeypatch.setattr(pipeline, "is_pool_worth", lambda pace, waiting: pace.shards > 1)
    await bench.in_thread(run_shards, run, range(count), NEVER)
    assert await committed(bench, run) == set(range(count))
    assert sorted(seen[:3]) == [0, 1, 2]


@pytest.mark.parametrize("error", [RunOverError(), PlatformError("input_changed", "The input changed: è.")])
async def test_a_failure_crosses_the_pool_as_text(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    """Ray Data wraps what a worker raises and loses the cause."""
    run = await run_of(bench)

    def failing(run: Run, shards: Sequence[int]) -> Iterator[pipeline.Item]:
        yield {"shard": np.array([0]), "failure": np.array([to_failure(error)], dtype=object)}  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "pooled", failing)
    with pytest.raises(type(error), match=str(error) or None):
        ShardPool(run, [0]).drain(NEVER)


async def test_a_pool_that_breaks_breaks_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The next run starts behind the last commit."""
    run = await run_of(bench)

    def broken(run: Run, shards: Sequence[int]) -> Iterator[pipeline.Item]:
        raise OSError("the actors died")
        yield {}

    monkeypatch.setattr(pipeline, "pooled", broken)
    with pytest.raises(OSError, match="actors died"):
        ShardPool(run, [0]).drain(NEVER)


@pytest.mark.usefixtures("known_model")
async def test_a_pool_that_never_begins_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The runner does the rest alone, starts no second pool, and says so in the job's log."""
    run = await run_of(bench)
    started = []
    begun, has_broken = itertools.count(), threading.Event()

    def broken(run: Run, shards: Sequence[int]) -> Iterator[pipeline.Item]:
        started.append(len(shards))
        raise OSError("no room for the actors")
        yield {}

    work, drive = ShardWorker.work, ShardPool._drive

    def watched_drive(self: ShardPool, run: Run, shards: Sequence[int]) -> None:
        drive(self, run, shards)
        has_broken.set()

    def work_behind_the_break(self: ShardWorker, index: int) -> None:
        if next(begun) >= 3:  # two are done, or one is and the other lane has one
            assert has_broken.wait(60)
        work(self, index)

    monkeypatch.setattr(pipeline, "pooled", broken)
    monkeypatch.setattr(ShardPool, "_drive", watched_drive)
    monkeypatch.setattr(ShardWorker, "work", work_behind_the_break)
    monkeypatch.setattr(pipeline, "is_pool_worth", lambda pace, waiting: pace.shards > 1)
    shards = range(len(run.plan.shards))
    await bench.in_thread(run_shards, run, shards, NEVER)
    assert await committed(bench, run) == set(shards)
    assert len(started) == 1
    assert 0 < started[0] < len(shards)
    (start,) = (event for event in read_events(run.folder) if event["event"] == "pool_started")
    assert start["waiting"] == started[0]
    assert start["pace"].keys() == {"seconds", "shards"}  # type: ignore[attr-defined]
    failures = [event["error"] for event in read_events(run.folder) if event["event"] == "pool_failed"]
    assert failures == ["no room for the actors"]


async def test_a_pool_is_patient_in_proportion_to_its_shards(bench: Bench):
    """Five minutes for a shard of the configured size; a large input is cut into larger ones."""
    run = await run_of(bench)
    assert patience_s(run) == pytest.approx(300, rel=0.5)
    batch = run.settings.batch.model_copy(update={"shard_target_bytes": 10})
    smaller = replace(run, settings=run.settings.model_copy(update={"batch": batch}))
    assert patience_s(smaller) == pytest.approx(4 * patience_s(run), rel=0.5)


async def test_a_pool_is_waited_for_while_it_finds_out_which_rows_hang(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """No shard is done meanwhile. Nobody waits for one of which nothing is heard."""
    run = await run_of(bench)
    release, looks = threading.Event(), list[float]()
    monkeypatch.setattr("batch.patience._NO_PROGRESS_S", 0.01)
    monkeypatch.setattr(pipeline, "_LOOK_EVERY_S", 0.02)

    def seen_at(_: Attempts) -> float:
        looks.append(time.time() + (1000 if len(looks) < 3 else -1000))
        return looks[-1]

    monkeypatch.setattr(Attempts, "seen_at", property(seen_at))
    monkeypatch.setattr(pipeline, "pooled", lambda run, shards: iter([release.wait(60)]))
    with pytest.raises(TimeoutError, match="no shard was done"):
        ShardPool(run, [0]).drain(NEVER)
    release.set()
    assert len(looks) == 4


async def test_ray_watches_over_stages_and_over_no_pool_of_its_workers(bench: Bench):
    """Its guard knows nothing of who finds out which rows hang, and would end the job."""
    import ray.data

    run, asked = await run_of(bench), list[float]()

    class AskedError(Exception):
        """Before anything is started."""

    def from_items(*_: object, **__: object) -> None:
        asked.append(ray.data.DataContext.get_current().execution_no_progress_timeout_s)
        raise AskedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray.data, "from_items", from_items)
        for work in (pipeline.staged, pipeline.pooled):
            with pytest.raises(AskedError):
                next(work(run, [0]))
    assert asked == [patience_s(run), -1]


async def test_a_stopped_run_does_not_wait_for_its_pool(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The pool may be deep in a long inference."""
    run = await run_of(bench)
    stop, release = threading.Event(), threading.Event()
    monkeypatch.setattr(pipeline, "pooled", lambda run, shards: iter([release.wait(60)]))
    stop.set()
    with pytest.raises(RunOverError):
        ShardPool(run, [0]).drain(stop)
    release.set()


async def test_a_fenced_worker_stops_at_once_and_says_so(bench: Bench):
    """The shards behind it are not even read."""
    run = await run_of(bench)
    store = bench.store()
    assert await JobStore(store, 60).claim_run(run.org, run.job_id, lease_s=60, dead_epoch=1) == 2
    await store.close()
    model = LengthModel()
    worker = ShardWorker(run, load=lambda _: model, is_niced=False)
    answer = await bench.in_thread(worker, {"shard": np.array([0, 1, 2])})
    await bench.in_thread(worker.close)
    assert [type(from_failure(text)) for text in answer["failure"].tolist()] == [RunOverError] * 3
    assert sum(model.calls) == run.plan.shards[0].records
    assert await committed(bench, run) == set()


async def test_a_committed_shard_is_not_predicted_again(bench: Bench):
    """Neither by a retry of Ray's nor by a later run."""
    run = await run_of(bench)
    model = LengthModel()
    worker = ShardWorker(run, load=lambda _: model, is_niced=False)
    await bench.in_thread(worker, {"shard": np.array([0, 0])})
    await bench.in_thread(worker.close)
    assert sum(model.calls) == run.plan.shards[0].records


@pytest.mark.parametrize(
    ("pace", "waiting", "expected"),
    [
        (Pace(), 4000, False),
        (Pace(9.9, 1), 4000, False),
        (Pace(10.0, 100), 3000, False),
        (Pace(10.0, 100), 3001, True),
        (Pace(60.0, 1), 5, False),  # the only one, worked on for a minute
        (Pace(60.0, 1), 6, True),
    ],
)
def test_a_pool_is_started_for_long_work_alone(pace: Pace, waiting: int, expected: bool):
    """If more than five minutes are left at a pace of ten seconds or more."""
    assert is_pool_worth(pace, waiting) is expected


@pytest.mark.parametrize(
    ("succeeded", "failed", "rate", "code"),
    [
        (0, 0, 1.0, None),
        (1, 99, 1.0, None),
        (0, 1, 1.0, "all_rows_failed"),
        (9, 1, 0.1, None),
        (71, 29, 0.29, None),
        (8, 2, 0.1, "error_rate_exceeded"),
        (9, 1, 0.0, "error_rate_exceeded"),
    ],
)
def test_how_a_job_ends(succeeded: int, failed: int, rate: float, code: str | None):
    """At the limit is within it."""
    ending = decide_ending(succeeded, failed, rate)
    assert (ending.error.code if ending.error else None) == code
    assert ending.status is (JobStatus.FAILED if code else JobStatus.COMPLETED)


def test_only_a_typed_error_ends_a_job():
    """What the next run may not meet is left to it."""
    assert is_final(PlatformError("input_changed"))
    assert not is_final(PlatformError("unavailable"))
    assert not is_final(OSError("disk full"))
