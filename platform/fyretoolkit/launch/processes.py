"""Which processes are ours, and how they end: never by name, never another copy's.

A process belongs to a copy if it descends from the copy's supervisor (a child subreaper, so orphans stay
below it), or is in the supervisor's session, or carries the copy's `FYRE_RUN_ID`. One mark alone is not
enough: Ray's workers overwrite their environment with their title and have groups of their own, and a job's
driver starts a session of its own. `ray stop` is no alternative: it ends every Ray of the machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table."""

    pid: int
    parent: int
    session: int
    is_zombie: bool
    start_ticks: int
    """Clock ticks since boot at which it started: with the pid, the identity of a process until the next boot."""


def become_subreaper() -> None:
    """Orphans among the descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """This process gets SIGTERM when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def boot_id() -> str:
    """An identifier of the time since the last boot: start ticks compare within one boot alone."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def read_process(pid: int) -> Process | None:
    """What /proc says of `pid`; `None` if there is no such process for this user."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # hidepid refuses other users' processes
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return Process(pid, int(fields[1]), int(fields[3]), fields[0] in "ZX", int(fields[19]))


def process_table() -> dict[int, Process]:
    """Every process that exists, by pid."""
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {pid: found for pid in pids if (found := read_process(pid))}


def is_running(pid: int, start_ticks: int) -> bool:
    """Whether the very process that started at `start_ticks` still runs."""
    found = read_process(pid)
    return found is not None and not found.is_zombie and found.start_ticks == start_ticks


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, a kernel thread, or another user's: not ours
        return False


def descendants(table: Mapping[int, Process], root: int) -> set[int]:
    """The pids below `root` in the table."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    pending = list(children.get(root, ()))
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending.extend(children.get(pid, ()))
    return found


def find_ours(run_id: str, supervisor: int, start_ticks: int) -> set[int]:
    """The live processes of a copy, its supervisor and this process excepted; the supervisor may be dead already."""
    table = process_table()
    mark = f"FYRE_RUN_ID={run_id}".encode()
    ours = {pid for pid in table if _has_mark(pid, mark)}
    leader = table.get(supervisor)
    if (
        leader is None or leader.start_ticks == start_ticks
    ):  # else the pid, and so the session, is somebody else's by now
        ours |= {process.pid for process in table.values() if process.session == supervisor}
        ours |= descendants(table, supervisor)
    for pid in tuple(ours):
        ours |= descendants(table, pid)
    return {pid for pid in ours - {supervisor, os.getpid()} if not table[pid].is_zombie}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def send_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if any of it still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def reap() -> dict[int, int]:
    """The children, adopted ones included, that ended since the last call: pid to exit code (negative: the signal)."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def end_ours(
    run_id: str,
    supervisor: int,
    start_ticks: int,
    *,
    keep: frozenset[int],
    grace_s: float,
    ended: dict[int, int] | None = None,
) -> set[int]:
    """End a copy's processes but those to keep: SIGTERM, SIGKILL after `grace_s`; what is left 5 s later.

    `ended` takes the exit codes of this process's children that end meanwhile, those to keep among them.

    Who was ours at one look stays so: a runner leads a session of its own, and is init's when its raylet is gone.
    """
    seen: dict[int, int] = {}

    def look() -> set[int]:
        table = process_table()
        ours = find_ours(run_id, supervisor, start_ticks) - keep
        ours |= {pid for pid, started in seen.items() if is_running(pid, started)}
        seen.update({pid: table[pid].start_ticks for pid in ours if pid in table})
        return ours

    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_s
        left = look()
        send(left, number)
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            if supervisor == os.getpid():
                codes = reap()
                if ended is not None:
                    ended.update(codes)
            left = look()
        if not left:
            break
    return left
