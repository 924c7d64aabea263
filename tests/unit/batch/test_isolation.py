"""Rows that kill their process become error lines; what is beside them, and who is killed from outside, does not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import patience
from batch.attempts import Attempts
from batch.crew import Crew
from batch.isolation import CRASHED, IsolatedModel
from batch.joblog import read_events
from batch.loading import LoadableModel
from batch.model_process import ModelProcess, ProcessDiedError
from batch.runs import Run
from batch.worker import ShardWorker
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.models.codec import ItemError
from fyretoolkit.models.package import files_in
from fyretoolkit.models.runner import Prediction
from fyretoolkit.objects.artifacts import open_artifacts
from tests.support.model_packages import load_runner
from tests.support.onnx_graphs import quotients
from tests.unit.batch.bench import Bench, LengthModel, run_inline
from tests.unit.batch.dead_workers import leave_mark


class MortalProcess:
    """Answers the length of each text; dies of what `kills`."""

    def __init__(self, kills: Callable[[Sequence[object]], bool]) -> None:
        self.is_fresh = self.is_alive = True
        self._kills = kills
        self._model = LengthModel()

    def predict(self, items: Sequence[object], cells_are_text: bool) -> Sequence[Prediction | ItemError]:
        """As the process that it stands for."""
        self.is_fresh = False
        if self._kills(items):
            self.is_alive = False
            raise ProcessDiedError
        return self._model.predict(items, cells_are_text)

    def end(self) -> None:
        """Nothing is left of it."""


def isolated(kills: Callable[[Sequence[object]], bool]) -> tuple[IsolatedModel, list[MortalProcess]]:
    """A model whose processes die of what `kills`, and those that were started."""
    started: list[MortalProcess] = []

    def start() -> ModelProcess:
        started.append(MortalProcess(kills))
        return started[-1]  # type: ignore[return-value]

    return IsolatedModel(start), started


def crashed(outcomes: Iterable[Prediction | ItemError]) -> set[int]:
    """The rows that were condemned."""
    return {each.index for each in outcomes if isinstance(each, ItemError) and each.code == "row_crashed"}


@given(st.sets(st.integers(0, 63), max_size=64))
def test_exactly_the_rows_that_kill_are_condemned(poison: set[int]) -> None:
    """Whichever and however many; all others are answered, in order."""
    model, _ = isolated(lambda items: any(item in poison for item in items))
    outcomes = model.predict(list(range(64)))
    assert crashed(outcomes) == poison
    assert [each.index for each in outcomes] == list(range(64))
    assert model.has_condemned is bool(poison)


@pytest.mark.parametrize("row", [0, 31, 63])
def test_one_row_of_64_costs_ten_processes(row: int) -> None:
    """Two deaths of all, one for each halving, two alone; and one that lives."""
    model, started = isolated(lambda items: row in items)
    model.predict(list(range(64)))
    assert len(started) <= 2 + 6 + 2 + 1


def test_a_kill_from_outside_condemns_nobody() -> None:
    """The rows are asked for again, all together: the answers are those of an undisturbed run."""
    asked: list[int] = []

    def kills(items: Sequence[object]) -> bool:
        asked.append(len(items))
        return len(asked) in (1, 2, 4)

    model, _ = isolated(kills)
    outcomes = model.predict(["text"] * 8)
    assert [each for each in outcomes if isinstance(each, ItemError)] == []
    assert not model.has_condemned
    assert asked[-1] == 8


def test_rows_that_kill_together_alone_are_answered_one_by_one() -> None:
    """None of them is to blame."""
    model, _ = isolated(lambda items: {"a", "b"} <= set(items))
    assert [type(each) for each in model.predict(["a", "x", "b"])] == [Prediction] * 3


def test_a_process_that_dies_unasked_is_no_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends, and the next may find a better machine; three starts, no more."""
    monkeypatch.setattr("batch.isolation._START_AGAIN_S", 0)
    started: list[None] = []

    def start() -> ModelProcess:
        started.append(None)
        raise ProcessDiedError

    with pytest.raises(PlatformError) as caught:
        IsolatedModel(start).predict(["text"])
    assert caught.value.code == "internal_error"
    assert len(started) == 3


def test_who_waits_hears_of_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that failed: a start and a row that hangs take longer together than a crew waits for news."""
    monkeypatch.setattr("batch.isolation._START_AGAIN_S", 0)
    events: list[str] = []

    def start() -> ModelProcess:
        events.append("start")
        if events.count("start") == 1:
            raise ProcessDiedError
        return MortalProcess(asked)  # type: ignore[return-value]

    def asked(items: Sequence[object]) -> bool:
        events.append("asked")
        return False

    model = IsolatedModel(start)
    model.on_answer = lambda: events.append("heard")
    model.predict(["text"])
    assert events == ["start", "heard", "start", "heard", "asked", "heard"]


def test_a_mark_outlives_who_dies_and_no_one_else(tmp_path: Path) -> None:
    """Another that lives, and one that failed in order, are no deaths."""
    attempts = Attempts(tmp_path)
    with attempts.at(3) as deaths, Attempts(tmp_path).at(3) as beside:
        assert (deaths, beside) == (0, 0)
    with pytest.raises(OSError, match="failed"), attempts.at(3):
        raise OSError("failed")
    for expected in (0, 1):
        if (child := os.fork()) == 0:
            with Attempts(tmp_path).at(3) as found:
                os.kill(os.getpid(), signal.SIGKILL if found == expected else signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with attempts.at(3) as deaths, attempts.at(4) as other:
        assert (deaths, other) == (2, 0)
    with attempts.at(3) as deaths:
        assert deaths == 0


@pytest.mark.anyio
async def test_a_shard_of_which_a_worker_died_goes_on_in_a_process_that_may(
    bench: Bench, tmp_path: Path
) -> None:
    """ONNX Runtime dies of -1 by SIGFPE: one error line, the same whoever was killed; no other shard is suspected."""
    runner = load_runner(tmp_path / "model", quotients())
    stored = open_artifacts(bench.settings).put(files_in(tmp_path / "model"))
    rows = b"".join(b"%d\n" % number for number in (*range(1, 60), -1, *range(61, 80)))
    job = await bench.create_job(rows, artifact=stored.sha256, spec=runner.spec.to_json())
    worked: list[Run] = []

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        worked.append(run)
        poisoned = next(each for each in run.plan.shards if each.first_record + each.records > 59)
        leave_mark(run.folder, poisoned.index)
        run_inline(ShardWorker(run, is_niced=False), shards, stop)

    done = await bench.run(job, work=work)
    assert (done.status, done.succeeded, done.failed) == (JobStatus.COMPLETED, 78, 1)
    assert [line["result"] for line in bench.lines(done)] == [
        {"y": int(-(1 << 63) / Fraction(number))} for number in (*range(1, 60), *range(61, 80))
    ]
    error = {"code": "row_crashed", "message": CRASHED}
    assert bench.lines(done, "errors") == [{"index": 59, "line": 60, "error": error}]
    deaths = [event["deaths"] for event in read_events(worked[0].folder) if event["event"] == "shard_started"]
    assert sorted(deaths)[-2:] == [0, 1]
    assert not (worked[0].folder / "working").exists()


def test_a_process_that_was_killed_before_it_is_asked_is_replaced(bench: Bench, tmp_path: Path) -> None:
    """What it was being told is still on its way, to nobody."""
    runner = load_runner(tmp_path / "model", quotients())
    stored = open_artifacts(bench.settings).put(files_in(tmp_path / "model"))
    started: list[ModelProcess] = []

    def start() -> ModelProcess:
        started.append(
            ModelProcess(LoadableModel(bench.settings, stored.sha256, runner.spec.to_json(), device_id=0))
        )
        return started[-1]

    model = IsolatedModel(start)
    assert [type(each) for each in model.predict([1])] == [Prediction]
    os.kill(started[0].pid, signal.SIGKILL)
    assert [type(each) for each in model.predict(list(range(1, 20_000)))] == [Prediction] * 19_999
    assert len(started) == 2
    model.close()


def wait_for_ever(crew: Crew) -> None:
    """As the pipeline does, until it gives up."""
    while True:
        crew.wait()


@pytest.mark.anyio
async def test_a_crew_waits_for_who_finds_out_which_rows_hang(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shard is done meanwhile. Nobody waits for one of which nothing is heard."""
    monkeypatch.setattr(patience, "_NO_PROGRESS_S", 0.01)
    go_on, found = threading.Event(), list[str]()

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        worker = ShardWorker(run, load=lambda _: LengthModel(), is_niced=False)
        attempts = Attempts(run.folder)
        monkeypatch.setattr(worker, "work", lambda _: go_on.wait(60))
        crew = Crew(run, deque(shards), worker)
        attempts.note_life()
        (mark,) = attempts.folder.glob("isolating")
        os.utime(mark, (time.time() + 1000,) * 2)  # just now, however slow this machine is
        for _ in range(3):
            crew.wait()
        found.append("patient")
        os.utime(mark, (time.time() - 1000,) * 2)
        with pytest.raises(TimeoutError):
            wait_for_ever(crew)
        found.append("not for ever")
        go_on.set()
        crew.close()
        raise PlatformError("run_failed")

    await bench.run(await bench.create_job(b'"a"\n"b"\n'), work=work)
    assert found == ["patient", "not for ever"]
