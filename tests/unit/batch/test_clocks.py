"""Whose time runs by the clock: that of what sleeps, or computes; not of what waits for a core."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from batch.clocks import Clock, Had, had, own_time_s

HOUR_S = 3600


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that computes until it is killed."""
    if (child := os.fork()) == 0:
        while True:
            pass
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_clock_runs_out_for_what_sleeps(busy: int) -> None:
    """At once: no core was what it waited for."""
    os.kill(busy, signal.SIGSTOP)
    while had(busy).is_runnable:
        os.sched_yield()
    assert Clock(busy, HOUR_S).left_s() > 0
    assert Clock(busy, -HOUR_S).left_s() <= 0


def test_the_clock_runs_out_for_what_computes(busy: int) -> None:
    """At the second look, which finds that it had a core: a process that waits for its GPU may spin."""
    clock = Clock(busy, -HOUR_S)
    assert clock.left_s() > 0
    before = had(busy)
    while had(busy).ran_ns == before.ran_ns:
        os.sched_yield()
    assert clock.left_s() <= 0


@pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(),
    reason="this kernel does not tell how long a thread was in line; the clock alone decides then, see the next test",
)
def test_a_threads_own_time_stands_while_it_is_in_line(busy: int) -> None:
    """Behind another process on its core: of a second by the clock it has had half, and never more than that."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    os.sched_setaffinity(busy, {min(cores)})
    try:
        began_s, own_s, computed_s = time.perf_counter(), own_time_s(), time.thread_time()
        while time.perf_counter() < began_s + 1:
            pass
        own_s, computed_s = own_time_s() - own_s, time.thread_time() - computed_s
        passed_s = time.perf_counter() - began_s
    finally:
        os.sched_setaffinity(0, cores)
    assert 0 < own_s < passed_s
    assert abs(own_s - computed_s) < (passed_s - computed_s) / 2


def test_who_is_not_told_has_not_waited(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc, or a kernel that does not count."""
    monkeypatch.setattr("batch.clocks.time", SimpleNamespace(perf_counter=lambda: 7.0))
    assert own_time_s() == 7


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of which a test says what is in it: no real process can be kept in line."""
    monkeypatch.setattr("batch.clocks._PROC", tmp_path)
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    (tmp_path / "8").mkdir()
    return tmp_path


def tell(proc: Path, pid: int, schedstat: str, state: str) -> None:
    """As the kernel does."""
    (proc / f"{pid}" / "schedstat").write_text(f"{schedstat}\n")
    (proc / f"{pid}" / "stat").write_text(f"{pid} (a) b) {state} 1 {pid}\n")


def test_the_clock_stands_still_in_line(proc: Path) -> None:
    """Of a fork too. What is in line has all the time until it had a core; then the wait is told, and counts for it."""
    tell(proc, 7, "5 10 1", "S")
    clock = Clock(7, -100)
    (proc / "7" / "task" / "7" / "children").write_text("8 9 ")
    tell(proc, 8, "20 0 1", "R")
    assert [clock.left_s() > 0 for _ in range(3)] == [True] * 3
    tell(proc, 8, f"30 {500 * 10**9} 2", "S")
    assert 300 < clock.left_s() <= 400
    tell(proc, 8, f"30 {50 * 10**9} 2", "R")  # in line anew
    assert clock.left_s() > 0
    tell(proc, 8, f"40 {50 * 10**9} 3", "R")
    assert clock.left_s() <= 0


def test_without_proc_the_clock_alone_decides(proc: Path) -> None:
    """Nothing is known of any process there."""
    assert had(8) == Had()
    assert Clock(8, HOUR_S).left_s() > 0
    assert Clock(8, -1).left_s() <= 0
