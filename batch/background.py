"""Behind real time from the first instruction on: `python -m batch.background SCRIPT ARGUMENTS` runs the script there.

A worker of a pool imports Ray Data before any code of ours runs in it, for seconds of a core, at the priority that Ray
gives to replicas. So it is started through this module (`runtime_env`'s `py_executable`), which steps back and becomes
the interpreter that Ray meant to start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

_LOWEST = 19
_RAYS = 15

P = ParamSpec("P")
T = TypeVar("T")


def step_back(niceness: int = _LOWEST) -> None:
    """Let real time go first: this thread, and those it starts, run when nobody else wants the core.

    On Linux both belong to a thread: a runner that works keeps the priority of its lease's renewal. Niceness alone is
    not enough: Ray starts every process at 15, and 19 has two fifths of its share. Where there is no more, or it is not
    permitted, there is that. 0: stay.
    """
    if niceness <= 0:
        return
    if os.getpriority(os.PRIO_PROCESS, 0) < niceness:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def step_forward() -> None:
    """Let this thread, which began behind real time, have the priority that Ray gives; if that is permitted.

    It renews a lease. Where it may not (that takes CAP_SYS_NICE), it has a small share of a busy core, which is enough.
    """
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, _RAYS)


def in_background(niceness: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in this thread, which steps back for good."""
    step_back(niceness)
    return call(*args, **kwargs)


def python_in_background() -> str:
    """The command that Ray shall start a worker's interpreter by."""
    return f"{sys.executable} -m {__name__}"


def main() -> None:
    """Step back, become the interpreter."""
    step_back()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - this interpreter


if __name__ == "__main__":
    main()
