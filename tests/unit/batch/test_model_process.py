"""A model in a process that may die: what it answers, when it is ended, and what is not a row's fault."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch.isolation import IsolatedModel
from batch.loading import LoadableModel
from batch.model_process import ModelProcess, ProcessDiedError, in_a_fork
from fyretoolkit.models.package import files_in
from fyretoolkit.models.runner import Prediction
from fyretoolkit.objects.artifacts import open_artifacts
from tests.support.model_packages import load_runner
from tests.support.onnx_graphs import as_many_steps, quotients
from tests.unit.batch.bench import Bench
from tests.unit.batch.test_isolation import crashed

STEPS = 100_000
"""Of `as_many_steps`: a twentieth of a second on a core."""


def test_what_a_fork_does_is_answered_and_its_death_told() -> None:
    """An error that nobody expected is a death too: nothing of the fork goes on."""
    assert in_a_fork(os.getpid, 60) not in (os.getpid(), "died")
    assert in_a_fork(lambda: os.kill(os.getpid(), signal.SIGKILL), 60) == "died"
    assert in_a_fork(lambda: 1 // 0, 60) == "died"


def test_a_lower_limit_of_the_machines_is_no_rows_fault() -> None:
    """`ulimit -t` holds for what it was set around; nobody may ask for more, and no row is condemned for that."""

    def limited() -> object:
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
        return in_a_fork(lambda: resource.getrlimit(resource.RLIMIT_CPU), 60)

    assert in_a_fork(limited, 60) == (30, 30)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """The next file that is opened has a number beyond 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.dup(0)]
    try:
        while held[-1] < 1024:
            held.append(os.dup(0))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def process_of(
    bench: Bench, folder: Path, graph: bytes, on_news: Callable[[], None] = lambda: None, **batch: float
) -> ModelProcess:
    """One that has loaded the graph."""
    spec = load_runner(folder / "model", graph).spec.to_json()
    stored = open_artifacts(bench.settings).put(files_in(folder / "model"))
    settings = bench.settings.model_copy(update={"batch": bench.settings.batch.model_copy(update=batch)})
    return ModelProcess(LoadableModel(settings, stored.sha256, spec, device_id=0), on_news)


def test_a_row_that_hangs_is_an_error_line_like_one_that_kills(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the processor time of its fork; the process that has the model goes on, and who waits hears of every step."""
    monkeypatch.setattr("batch.model_process._CLOCK", 1000)  # a busy machine's clock says nothing
    model = IsolatedModel(lambda: process_of(bench, tmp_path, as_many_steps(), row_timeout_s=1))
    heard: list[None] = []
    model.on_answer = lambda: heard.append(None)
    outcomes = model.predict([3, 1 << 62, 5])
    assert crashed(outcomes) == {1}
    assert [each.result for each in outcomes if isinstance(each, Prediction)] == [{"y": 3}, {"y": 5}]
    assert len(heard) >= 6
    model.close()


def test_a_process_that_answers_nothing_is_killed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sleeps takes no processor time: the clock ends it."""
    monkeypatch.setattr("batch.model_process._CLOCK", 1)
    process = process_of(bench, tmp_path, quotients(), row_timeout_s=0.1)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(ProcessDiedError):
        process.predict([1], False)
    assert not process.is_alive
    process.end()


@contextmanager
def starved(process: ModelProcess) -> Iterator[None]:
    """On one core with others that come first: a twentieth of it is left for the process and its forks."""
    core = min(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for other in others:
            os.sched_setaffinity(other.pid, {core})
        os.sched_setaffinity(process.pid, {core})
        os.setpriority(os.PRIO_PROCESS, process.pid, 11)
        yield
    finally:
        for other in others:
            with other:
                other.kill()


def test_a_row_that_waits_for_a_core_is_not_condemned_by_the_clock(bench: Bench, tmp_path: Path) -> None:
    """It takes many times what the clock allows, next to none of it asleep; who waits hears that it gets on."""
    heard: list[None] = []
    process = process_of(bench, tmp_path, as_many_steps(), lambda: heard.append(None), row_timeout_s=0.15)
    heard.clear()
    with starved(process):
        (outcome,) = process.predict([STEPS], False)
    assert isinstance(outcome, Prediction)
    assert heard
    process.end()


def test_a_process_outlives_the_thread_that_asked_for_it(bench: Bench, tmp_path: Path) -> None:
    """A lane starts it for its shard and ends; another one asks it. The kernel would end it with the lane."""
    started: list[ModelProcess] = []
    lane = threading.Thread(target=lambda: started.append(process_of(bench, tmp_path, quotients())))
    lane.start()
    lane.join()
    while Path(f"/proc/self/task/{lane.native_id}").exists():
        os.sched_yield()
    assert [type(each) for each in started[0].predict([1, 2], False)] == [Prediction] * 2
    started[0].end()


def test_a_process_is_asked_over_any_descriptor(bench: Bench, tmp_path: Path, many_descriptors: None) -> None:
    """A runner of many connections and files has descriptors beyond 1023, which `select` refuses."""
    process = process_of(bench, tmp_path, quotients())
    assert [type(each) for each in process.predict([1, 2], False)] == [Prediction] * 2
    process.end()
