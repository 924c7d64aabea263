"""Hands and the crew they are of: real processes over a real graph, one of them killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from batch import crew as crews
from batch.crew import Crew
from batch.hands import Hand, HandLostError
from batch.joblog import read_events
from batch.pipeline import run_shards
from batch.runs import Run
from batch.worker import ShardWorker
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.models.package import files_in
from fyretoolkit.objects.artifacts import open_artifacts
from tests.support.model_packages import load_runner
from tests.support.onnx_graphs import quotients
from tests.unit.batch.bench import Bench

pytestmark = pytest.mark.anyio


async def over_quotients(bench: Bench, folder: Path, work: object, rows: int = 200) -> object:
    """A finished job of a real model, some forty shards, which `work` has worked on."""
    runner = load_runner(folder / "model", quotients())
    stored = open_artifacts(bench.settings).put(files_in(folder / "model"))
    content = b"".join(b"%d\n" % number for number in range(1, rows + 1))
    job = await bench.create_job(content, artifact=stored.sha256, spec=runner.spec.to_json())
    done = await bench.run(job, work=work)  # type: ignore[arg-type]
    assert (done.status, done.succeeded, done.failed) == (JobStatus.COMPLETED, rows, 0)
    assert [line["index"] for line in bench.lines(done)] == list(range(rows))
    return done


async def test_a_hand_takes_its_share(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes commit shards of one run."""
    monkeypatch.setattr(crews, "_HAND_WORTH_BYTES", 0)
    here = threading.Event()
    work = ShardWorker.work

    def wait_for_the_hand(self: ShardWorker, index: int) -> None:
        assert here.wait(120)
        work(self, index)

    def watch(hand: Hand, index: int) -> None:
        work_over_there(hand, index)
        here.set()

    work_over_there = Hand.work
    monkeypatch.setattr(ShardWorker, "work", wait_for_the_hand)
    monkeypatch.setattr(Hand, "work", watch)
    done = await over_quotients(bench, tmp_path, run_shards)
    events = [each for each in read_events(bench.job_folder(done)) if each["event"] == "shard_committed"]  # type: ignore[arg-type]
    assert os.getpid() in {event["pid"] for event in events}
    assert len({event["pid"] for event in events}) == 2


async def test_what_a_killed_hand_was_at_is_done_here(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies with shards in hand while this process waits: none is missing, none is there twice."""
    monkeypatch.setattr(crews, "_HAND_WORTH_BYTES", 0)
    dead = threading.Event()
    work, work_over_there = ShardWorker.work, Hand.work

    def wait_for_its_end(self: ShardWorker, index: int) -> None:
        assert dead.wait(120)
        work(self, index)

    def kill(hand: Hand, index: int) -> None:
        os.kill(hand.pid, signal.SIGKILL)
        try:
            work_over_there(hand, index)
        finally:
            dead.set()

    monkeypatch.setattr(ShardWorker, "work", wait_for_its_end)
    monkeypatch.setattr(Hand, "work", kill)
    await over_quotients(bench, tmp_path, run_shards)


async def test_no_shard_is_kept_for_a_hand_that_is_not_up(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner does them in their order, so that progress moves, and the job does not end later for its sake."""

    class Starting(Hand):
        """It takes longer to start than the job takes."""

        ready = property(lambda _: threading.Event(), lambda *_: None)  # type: ignore[assignment]

    monkeypatch.setattr(crews, "_HAND_WORTH_BYTES", 0)
    monkeypatch.setattr(crews, "Hand", Starting)
    monkeypatch.setattr(crews, "LANES", 1)
    done = await over_quotients(bench, tmp_path, run_shards)
    events = read_events(bench.job_folder(done))  # type: ignore[arg-type]
    started = [event["shard"] for event in events if event["event"] == "shard_started"]
    assert "hand_started" in {event["event"] for event in events}
    assert started == sorted(started)


async def test_a_hands_error_is_the_runs(bench: Bench, tmp_path: Path) -> None:
    """With its code; and a hand that is gone says so for every shard."""

    def work(run: Run, shards: Sequence[int], stop: threading.Event) -> None:
        hand = Hand(run)
        with Path(run.source.path).open("ab") as file:
            file.write(b"5\n")
        with pytest.raises(PlatformError, match="input_changed"):
            hand.work(0)
        hand.end()
        with pytest.raises(HandLostError):
            hand.work(1)
        with Path(run.source.path).open("rb+") as file:
            file.truncate(run.source.size_bytes)
        os.utime(run.source.path, ns=(run.source.mtime_ns, run.source.mtime_ns))
        crew = Crew(run, deque(shards), ShardWorker(run))
        while crew.is_busy:
            crew.wait()
        crew.close()

    await over_quotients(bench, tmp_path, work)
