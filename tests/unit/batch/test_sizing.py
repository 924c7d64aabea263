"""How large shards are: by the model's measured speed, between bounds."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from batch.attempts import Attempts
from batch.boundaries import InputFormat
from batch.joblog import read_events
from batch.runs import Run
from batch.shards import Layout
from batch.sizing import measure_speed, shard_bytes
from batch.sources import Source
from batch.worker import Predictor
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import BatchSettings
from tests.unit.batch.bench import SPEC, Bench, LengthModel

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("size_bytes", "bytes_per_s", "expected"),
    [
        (100 * MIB, None, 4 * MIB),  # not known: the most
        (100 * MIB, 40e6, 4 * MIB),  # a second of it would be too much to hold
        (100 * MIB, 3e6, 2 * MIB),  # the power of two below
        (10 * MIB, 5_000, 4 * KIB),
        (100 * MIB, 10, 100 * MIB // 4000),  # no more shards than that
        (16 * MIB, None, MIB),  # sixteen at least
        (200 * KIB, None, 64 * KIB),  # but not finer than that for their number's sake
        (200 * KIB, 10_000, 8 * KIB),
        (10 << 30, 40e6, 4 * MIB),
    ],
)
def test_a_shard_is_a_second_of_work_between_bounds(
    size_bytes: int, bytes_per_s: float | None, expected: int
) -> None:
    """By hand, with the defaults."""
    assert shard_bytes(size_bytes, bytes_per_s, BatchSettings()) == expected


def run_over(bench: Bench, content: bytes) -> Run:
    """A run that is staged and not cut."""
    path = bench.folder / "rows.jsonl"
    path.write_bytes(content)
    status = path.stat()
    source = Source(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    settings = bench.settings.model_copy(update={"batch": BatchSettings(rows_per_call=8)})
    run = Run("org_test", "job_x", 1, "0" * 64, SPEC.to_json(), source, "plan-1.json", settings)
    run.folder.mkdir(parents=True)
    return run


LAYOUT = Layout(InputFormat.JSONL, 0)
ROWS = b'"some text"\n' * 2000


def test_the_first_rows_are_asked_for_in_growing_groups(bench: Bench) -> None:
    """A model that takes a second a row is asked for one alone; groups grow to what a worker's will be."""
    model = LengthModel()
    speed = measure_speed(run_over(bench, ROWS), LAYOUT, lambda _: model)
    assert speed is not None
    assert speed > 0
    assert model.calls[:5] == [1, 2, 4, 8, 8]


def test_a_busy_machine_makes_no_finer_shards(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for a core counts neither for the speed nor for how many rows are asked for at last."""
    own_s, wall_s = itertools.count(0.0, 0.015), itertools.count(0.0, 0.3)
    monkeypatch.setattr("batch.sizing.own_time_s", lambda: next(own_s))
    monkeypatch.setattr("batch.sizing.time", SimpleNamespace(monotonic=lambda: next(wall_s)))
    model = LengthModel()
    speed = measure_speed(run_over(bench, ROWS), LAYOUT, lambda _: model)
    assert model.calls == [1, 2, 4, 8, 8, 8, 8]
    assert speed == pytest.approx(8 / 0.015 * len(b'"some text"\n'))


def test_nobody_waits_for_long_to_be_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds by the clock, however little of them the thread has had."""
    own_s, wall_s = itertools.count(0.0, 0.001), itertools.count(0.0, 1.5)
    monkeypatch.setattr("batch.sizing.own_time_s", lambda: next(own_s))
    monkeypatch.setattr("batch.sizing.time", SimpleNamespace(monotonic=lambda: next(wall_s)))
    model = LengthModel()
    assert measure_speed(run_over(bench, ROWS), LAYOUT, lambda _: model)
    assert model.calls == [1, 2, 4]


def test_what_cannot_be_measured_has_no_speed(bench: Bench) -> None:
    """A model that does not load, one on a GPU, an input with no whole row in the sample."""

    def fail(run: Run) -> Predictor:
        raise PlatformError("artifact_not_found", "gone")

    run = run_over(bench, ROWS)
    assert measure_speed(run, LAYOUT, fail) is None
    assert [event["event"] for event in read_events(run.folder)] == ["speed_unknown"]
    resources = SPEC.resources.model_copy(update={"num_gpus": 1.0})
    on_gpu = replace(run, spec=SPEC.model_copy(update={"resources": resources}).to_json())
    assert measure_speed(on_gpu, LAYOUT, fail) is None
    path = bench.folder / "long.jsonl"
    path.write_bytes(b"9" * 2 * MIB)
    long = replace(run, source=replace(run.source, path=str(path), size_bytes=2 * MIB))
    assert measure_speed(long, LAYOUT, lambda _: LengthModel()) is None


def test_a_model_that_hangs_in_the_first_rows_holds_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends, and with its process the mark says that it died at the first shard."""
    monkeypatch.setattr("batch.sizing._HANGS_S", 0.05)
    is_over = threading.Event()

    class Hanging:
        def predict(self, items: Sequence[object], *_: object, **__: object) -> list[object]:
            is_over.wait()
            return list(items)

    run = run_over(bench, ROWS)
    with pytest.raises(TimeoutError):
        measure_speed(run, LAYOUT, lambda _: Hanging())  # type: ignore[arg-type, return-value]
    assert list((run.folder / "working").iterdir())
    is_over.set()


def test_a_run_that_died_of_the_first_rows_measures_them_no_more(bench: Bench) -> None:
    """The next one would die of them too."""
    run = run_over(bench, ROWS)

    class Deadly:
        def predict(self, items: Sequence[object], *_: object, **__: object) -> list[object]:
            os.kill(os.getpid(), signal.SIGKILL)
            return list(items)

    if (child := os.fork()) == 0:
        measure_speed(run, LAYOUT, lambda _: Deadly())  # type: ignore[arg-type, return-value]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert measure_speed(run, LAYOUT, lambda _: LengthModel()) is None
    with Attempts(run.folder).at(0) as deaths:
        assert deaths == 1  # who works on the shard knows it as well
