"""What a process may still do that is about to open a stranger's model: read a few files, compute, and answer.

Several fences, each of which the system may lack: namespaces without a network, Landlock for files, a list of system
calls, limits of resources, no privileges. A process puts itself behind them after its imports, which need what is
fenced off, and cannot come back. Without root, and as root in a container, whatever is permitted there; what is not is
told, and the rest holds. A container of its own for each model was rejected: the platform would need the rights to make
one. Source: docs/SAFETY, 2.3 and finding F12; the manual pages named in the modules.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import signal
import sysconfig
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path

import fyretoolkit
from fyretoolkit.models.landlock import confine_files
from fyretoolkit.models.system_calls import filter_system_calls

MAX_ERRORS_BYTES = 1 << 20
"""Of a file that the process may have open for writing: where its errors go."""
_MAX_FILES = 64
_NO_NEW_PRIVILEGES, _DEATH_SIGNAL = 38, 1
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_CAPABILITY_VERSION = 0x20080522
_READ_ANY_FILE = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of which a container's root may have either."""
_OWN_PATHS = (
    *{Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    Path(fyretoolkit.__file__).parent,
)
"""Where Python may still look for a module that was not imported yet."""
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_WORST_SCORE = b"1000"


class Fence(StrEnum):
    """What stands between a model and the machine, beside limits of resources, which every system has."""

    NAMESPACES = "namespaces"
    """A network of its own, with nothing in it, and no shared memory of others."""
    FILES = "landlock"
    """A few files to read, none to write."""
    SYSTEM_CALLS = "seccomp"
    """No sockets, processes, programs, signals, files to write."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the process may use from here on."""

    cpu_s: float
    memory_bytes: int
    """Beyond what it has mapped already."""


def die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends, however it ends."""
    _library().prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def leave_network() -> bool:
    """Move into namespaces of its own. While there is one thread alone. False: the system does not permit it.

    Root takes them directly and keeps, of its privileges, reading what others own: a model may be theirs. Everybody
    else needs a user namespace around them, in which they would be root: those privileges are given up too.
    """
    library = _library()
    namespaces = _NEW_NETWORK | _NEW_IPC
    has_left = bool(library.unshare(namespaces) == 0 or library.unshare(namespaces | _NEW_USER) == 0)
    _drop_privileges()
    die_with_parent()  # forgotten by the kernel when privileges change
    volunteer_for_oom()
    return has_left


def volunteer_for_oom() -> None:
    """Where memory ends, a stranger's model goes first."""
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_bytes(_WORST_SCORE)


def restrict(bounds: Bounds, readable: Iterable[Path]) -> set[Fence]:
    """Close the fences around this process: of files it reads `readable` and Python's own. The fences that stand.

    Call `leave_network` before.
    """
    _library().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _limit_resources(bounds)
    standing = set()
    is_alone = len([*Path("/proc/self/task").iterdir()]) == 1  # Landlock confines the thread that asks for it
    if confine_files([*_OWN_PATHS, *readable]) and is_alone:
        standing.add(Fence.FILES)
    if filter_system_calls():
        standing.add(Fence.SYSTEM_CALLS)
    return standing


def _limit_resources(bounds: Bounds) -> None:
    cpu_s = ceil(time.process_time() + bounds.cpu_s)
    for what, value in (
        (resource.RLIMIT_AS, _mapped_bytes() + bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, MAX_ERRORS_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (bound, bound))
    # At the first the kernel says that it is time (SIGXCPU), at the second it kills.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    return pages * resource.getpagesize()


def _drop_privileges() -> None:
    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = (
            ("effective", ctypes.c_uint32),
            ("permitted", ctypes.c_uint32),
            ("inheritable", ctypes.c_uint32),
        )

    library = _library()
    header, sets = Header(_CAPABILITY_VERSION, 0), (Sets * 2)()
    library.capget(ctypes.byref(header), ctypes.byref(sets))
    kept = sets[0].permitted & _READ_ANY_FILE
    library.capset(ctypes.byref(header), ctypes.byref((Sets * 2)(Sets(kept, kept, 0), Sets(0, 0, 0))))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
