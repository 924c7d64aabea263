"""What works behind real time: within its session, and, where Linux shares by session, its session too."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch.background import python_in_background, step_back

_SESSION = "import os; print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())"
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_GROUP = "print(open('/proc/self/autogroup').read().split()[-1])"


def is_shared_by_session() -> bool:
    """Whether this kernel gives every session an equal share."""
    switch = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return switch.exists() and switch.read_text("ascii").strip() == "1"


def test_working_steps_back_behind_real_time_and_leaves_the_lease_its_priority():
    """The thread that works gets what cores nobody wants; the one that renews the lease stays as it was."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[tuple[int, int]] = []

    def work() -> None:
        step_back(19)
        step_back(3)  # never forward again
        seen.append((os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(19, os.SCHED_IDLE)]
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == (before, os.SCHED_OTHER)


def test_a_worker_of_a_pool_is_behind_real_time_before_it_imports_anything():
    """Ray's command for an interpreter, with a script and its arguments behind it."""
    script = "import os, sys; print(os.sched_getscheduler(0), os.nice(0), sys.argv[1:])"
    command = [*python_in_background().split(), "-c", script, "--node=1"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found == f"{os.SCHED_IDLE} 19 ['--node=1']\n"


def test_working_has_the_shortest_slices():
    """Where the kernel lets a thread choose (6.12): a caller of another session waits for the end of one."""
    seen = []

    def work() -> None:
        step_back(19)
        attributes = ctypes.create_string_buffer(48)
        assert ctypes.CDLL(None).syscall(_SCHED_GETATTR[os.uname().machine], 0, attributes, 48, 0) == 0
        seen.append(struct.unpack("=IIQiIQQQ", attributes)[5])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    major, minor = (int(number) for number in os.uname().release.split(".")[:2])
    assert seen == ([100_000] if (major, minor) >= (6, 12) else [0])


@pytest.mark.parametrize("is_leader", [False, True])
def test_a_runner_lets_callers_in_other_sessions_go_first(is_leader: bool):
    """It begins a session, which Linux gives a tenth of another's share; as leader of a process group, which Ray makes
    of each worker, too, and it stays one, by which Ray ends it.
    """
    script = f"{_SESSION}\n{_GROUP}" if is_shared_by_session() else _SESSION
    found = _run([*python_in_background().split(), "-c", script], process_group=0 if is_leader else None)
    assert found == ("True True\n10\n" if is_shared_by_session() else f"False {is_leader}\n")


def test_a_driver_lets_other_sessions_go_first_and_stays_in_its_own():
    """Ray ends a submitted job by the process group of its session: leaving would leave the driver behind."""
    script = f"from batch.background import step_out_with_session as out; out(); {_SESSION}"
    started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}], check=True)"
    if is_shared_by_session():
        started += f"; {_GROUP}"
    found = _run([sys.executable, "-uc", started], process_group=None, start_new_session=True)
    assert found == ("False False\n10\n" if is_shared_by_session() else "False False\n")


def _run(command: list[str], *, process_group: int | None, start_new_session: bool = False) -> str:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        process_group=process_group,
        start_new_session=start_new_session,
    ).stdout
