"""How long a process may take by the clock, but for what it waits for a core.

Batch runs behind real time (`background.py`), and a busy machine may leave a process a hundredth of a core for minutes:
by the clock alone whoever waits in line would be condemned as one that sleeps. Linux tells of each process for how long
it waited in line (`/proc/PID/schedstat`), once it has left it; of one that is still in it only that it could run and
has not. Where there is no /proc, or no such file in it, the clock alone decides. Rejected: processor time alone, for
what sleeps takes none.
Source: proc(5); Linux, Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 1.0
"""Between two looks at one that could run, to see whether it did."""
_PROC = Path("/proc")
_RUNNABLE = "R"


@dataclass(frozen=True, slots=True)
class Had:
    """What a process and its children had of the cores so far, by their main threads."""

    ran_ns: int = 0
    waited_ns: int = 0
    """In line for a core."""
    is_runnable: bool = False
    """Whether one of them is in line, or on a core."""


class Clock:
    """Time for a process to answer, itself or by a fork that it waits for: one of them at a time could run."""

    def __init__(self, pid: int, allowed_s: float) -> None:
        self._pid = pid
        self._allowed_s = allowed_s
        self._began_at = time.monotonic()
        self._waited_ns = had(pid).waited_ns
        self._seen: Had | None = None

    def left_s(self) -> float:
        """How much longer it may take: 0 or less if its time is over and no core was what it waited for."""
        now = had(self._pid)
        waited_s = (now.waited_ns - self._waited_ns) / 1e9
        left_s = self._allowed_s + waited_s - (time.monotonic() - self._began_at)
        if left_s > 0:
            self._seen = None
        elif now.is_runnable and self._seen in (None, now):
            # In line since who knows when, which will be told when it is through; or on a core, as will be seen next.
            self._seen = now
            return LOOK_S
        return left_s


def had(pid: int) -> Had:
    """As far as the system tells; a process that is gone had nothing."""
    found = [_of_one(each) for each in (pid, *_children(pid))]
    return Had(
        sum(each.ran_ns for each in found),
        sum(each.waited_ns for each in found),
        any(each.is_runnable for each in found),
    )


def own_time_s() -> float:
    """A clock that stands while this thread waits in line for a core, for differences.

    Of a model with one thread, as a worker's is, it tells the time that it takes, however busy the machine.
    """
    try:
        waited_ns = int((_PROC / "thread-self/schedstat").read_text("ascii").split()[1])
    except OSError:
        waited_ns = 0
    return time.perf_counter() - waited_ns / 1e9


def _of_one(pid: int) -> Had:
    try:
        ran, waited, _ = (_PROC / f"{pid}/schedstat").read_text("ascii").split()
        state = (_PROC / f"{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return Had()
    return Had(int(ran), int(waited), state == _RUNNABLE)


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in (_PROC / f"{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []
