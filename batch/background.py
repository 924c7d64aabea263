"""Behind real time from the first instruction on: `python -m batch.background SCRIPT ARGUMENTS` runs the script there.

A worker of a pool imports Ray Data before any code of ours runs in it, for seconds of a core, at the priority that Ray
gives to replicas. So it is started through this module (`runtime_env`'s `py_executable`), which steps back and becomes
the interpreter that Ray meant to start.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

_LOWEST = 19
_RAYS = 15
_IS_GROUPED = Path("/proc/sys/kernel/sched_autogroup_enabled")
_GROUP = Path("/proc/self/autogroup")
_OF_THE_SESSION = 10
"""A tenth of another session's share: a job gets on even where others never leave a core."""
_SHORTEST_SLICE_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_TRIES, _TRY_EVERY_S = 20, 0.1

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
        _shorten_slices()
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _shorten_slices() -> None:
    """sched_setattr(2) for this thread, which Python does not have; an older kernel ignores the slice.

    A thread that has SCHED_IDLE keeps what it asked for before, and cannot ask.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        asked = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, niceness, 0, _SHORTEST_SLICE_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, asked, 0)


def step_forward() -> None:
    """Let this thread, which began behind real time, have the priority that Ray gives; if that is permitted.

    It renews a lease. Where it may not (that takes CAP_SYS_NICE), it has a small share of a busy core, which is enough.
    """
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, _RAYS)


def step_out() -> None:
    """Let other sessions go first too: this process leads a session of its own, which has little of the machine.

    Where Linux groups by session ("autogroup", what desktops and plain servers do), niceness and SCHED_IDLE count
    within a session alone, and every session has an equal share: beside a job, callers on the same machine waited for
    up to a second (decisions/0014). Elsewhere, and where it is not permitted, nothing changes. Source: sched(7).
    """
    if not _has_groups():
        return
    try:
        if os.getsid(0) != os.getpid():
            if os.getpgid(0) == os.getpid():  # who leads a process group cannot begin a session
                os.setpgid(0, os.getpgid(os.getppid()))
            os.setsid()
    except PermissionError:
        return
    step_out_with_session()


def step_out_with_session() -> None:
    """The same for the whole session that this process is in: to be called where that is the job's alone."""
    if not _has_groups():
        return
    for _ in range(_TRIES):
        try:
            _GROUP.write_text(str(_OF_THE_SESSION), "ascii")
        except BlockingIOError:  # the kernel takes ten such changes a second, of the whole machine
            time.sleep(_TRY_EVERY_S)
        except OSError:
            return
        else:
            return


def _has_groups() -> bool:
    try:
        return _IS_GROUPED.read_text("ascii").strip() == "1"
    except OSError:
        return False


async def in_thread_of_its_own(call: Callable[..., T], *args: object) -> T:
    """`call` in a new thread, which ends with it: one that stepped back must not be lent to anybody else.

    Who is cancelled leaves it behind.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast(T, result))

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call(*args)
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=work, daemon=True, name="background").start()
    return await outcome


def in_background(niceness: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in this thread, which steps back for good."""
    step_back(niceness)
    return call(*args, **kwargs)


def python_in_background() -> str:
    """The command that Ray shall start a worker's interpreter by."""
    return f"{sys.executable} -m {__name__}"


def main() -> None:
    """Step back and out, become the interpreter."""
    step_back()
    step_out()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - this interpreter


if __name__ == "__main__":
    main()
