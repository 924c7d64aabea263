"""Processes of a copy are found and ended whatever they did to hide; others are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable

import pytest

from fyretoolkit.launch import processes
from fyretoolkit.launch.processes import Process, descendants, end_ours, find_ours, is_running, read_process

SLEEP = "import time; time.sleep(600)"
IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(600)
"""
# A leader with a child that has neither its session nor its environment, and one that has lost its parent.
FAMILY = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True, env={{}})
subprocess.run(["sh", "-c", "sleep 600 & exit 0"], env={{}})
print("ready", flush=True)
time.sleep(600)
"""
# A leader whose child has neither its session nor its environment, and stays when the leader is gone.
ORPHANING = f"""
import subprocess, sys, time
command = [sys.executable, "-c", {IGNORES_TERM!r}]
child = subprocess.Popen(command, start_new_session=True, env={{}}, stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
time.sleep(600)
"""
NOBODY = 2**22 + 1  # above the largest pid


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(code: str, run_id: str = "", *, is_leader: bool = False) -> subprocess.Popen[str]:
    """A Python process, with the mark of a run if one is given; it has printed its first line."""
    environment = {"FYRE_RUN_ID": run_id} if run_id else {}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        start_new_session=is_leader,
        stdout=subprocess.PIPE,
        text=True,
    )
    if "ready" in code:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return process


def finish(*started: subprocess.Popen[str]) -> None:
    """Kill and collect."""
    for process in started:
        process.kill()
        process.communicate()


def test_a_marked_process_is_found_and_an_unmarked_one_is_not() -> None:
    """The mark is a whole variable, not a part of one."""
    run_id = uuid.uuid4().hex
    ours, others, similar = start(SLEEP, run_id), start(SLEEP), start(SLEEP, f"{run_id}0")
    try:
        wait_for(lambda: ours.pid in find_ours(run_id, NOBODY, 0))
        assert find_ours(run_id, NOBODY, 0) == {ours.pid}
    finally:
        finish(ours, others, similar)


def test_a_family_is_found_by_session_and_descent_without_marks() -> None:
    """A child in a session of its own, and an orphan that stayed in its leader's."""
    leader = start(FAMILY, is_leader=True)
    found = read_process(leader.pid)
    assert found is not None
    try:
        family = find_ours("no such run", leader.pid, found.start_ticks)
        assert len(family) == 2
        assert leader.pid not in family
    finally:
        assert end_ours("no such run", leader.pid, found.start_ticks, keep=frozenset(), grace_s=5) == set()
        finish(leader)
    assert all(read_process(pid) is None or read_process(pid).is_zombie for pid in family)  # type: ignore[union-attr]


def test_who_is_orphaned_while_all_are_ended_is_ended_too() -> None:
    """A runner has a session of its own, and a title where its environment was: known by its raylet alone."""
    run_id = uuid.uuid4().hex
    leader = start(ORPHANING, run_id)
    (child,) = find_ours(run_id, NOBODY, 0) - {leader.pid}
    try:
        assert end_ours(run_id, NOBODY, 0, keep=frozenset(), grace_s=1) == set()
        found = read_process(child)
        assert found is None or found.is_zombie
    finally:
        finish(leader)


def test_a_session_whose_leader_is_another_process_by_now_is_left_alone() -> None:
    """Pids are used again: the recorded start time does not fit."""
    leader = start(FAMILY, is_leader=True)
    found = read_process(leader.pid)
    assert found is not None
    try:
        assert find_ours("no such run", leader.pid, found.start_ticks - 1) == set()
    finally:
        end_ours("no such run", leader.pid, found.start_ticks, keep=frozenset(), grace_s=5)
        finish(leader)


def test_what_ignores_sigterm_is_killed_and_what_is_kept_survives() -> None:
    """SIGKILL after the grace; the processes to keep are not even asked."""
    run_id = uuid.uuid4().hex
    stubborn, kept = start(IGNORES_TERM, run_id), start(SLEEP, run_id)
    try:
        wait_for(lambda: kept.pid in find_ours(run_id, NOBODY, 0))
        assert end_ours(run_id, NOBODY, 0, keep=frozenset({kept.pid}), grace_s=0.2) == set()
        assert stubborn.wait(60) == -9
        assert kept.poll() is None
    finally:
        finish(stubborn, kept)


def test_a_process_is_identified_by_pid_and_start_time() -> None:
    """Neither alone."""
    own = read_process(os.getpid())
    assert own is not None
    assert own.parent == os.getppid()
    assert own.session == os.getsid(0)
    assert is_running(own.pid, own.start_ticks)
    assert not is_running(own.pid, own.start_ticks + 1)
    assert not is_running(NOBODY, own.start_ticks)


@pytest.mark.parametrize(("root", "expected"), [(1, {2, 3, 4}), (2, {3}), (3, set()), (5, {6})])
def test_descendants(root: int, expected: set[int]) -> None:
    """1 has 2 and 4, 2 has 3; 5 and 6 are another family."""
    parents = {1: 0, 2: 1, 3: 2, 4: 1, 5: 0, 6: 5}
    table = {pid: Process(pid, parent, 1, False, 0) for pid, parent in parents.items()}
    assert descendants(table, root) == expected


def test_a_name_with_parentheses_does_not_confuse_the_process_table() -> None:
    """/proc/<pid>/stat puts the name in parentheses and escapes nothing."""
    process = start(
        "import ctypes; ctypes.CDLL(None).prctl(15, b'a) S 1 (b'); print('ready', flush=True); input()"
    )
    try:
        found = read_process(process.pid)
        assert found is not None
        assert found.parent == os.getpid()
    finally:
        finish(process)


def test_the_subreaper_collects_orphans() -> None:
    """In a process of its own: adoption cannot be taken back."""
    code = (
        "import subprocess, time\n"
        "from fyretoolkit.launch import processes\n"
        "processes.become_subreaper()\n"
        "orphan = int(subprocess.check_output(['sh', '-c', 'sleep 0.1 >/dev/null & echo $!']))\n"
        "ended = {}\n"
        "while orphan not in ended: ended |= processes.reap(); time.sleep(0.01)\n"
        "print(ended[orphan])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "0\n"


def test_boot_id_is_stable() -> None:
    """Start times compare within one boot."""
    assert processes.boot_id() == processes.boot_id() != ""
