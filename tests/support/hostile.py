"""What a model that took its probe over would try, run behind the fences by `python -m tests.support.hostile`.

Reads `{"secret", "allowed", "user", "without"}` as JSON: a file nobody may read, one that may be read, the user to
become first (None: stay), the fences that this system shall seem not to have. Answers with JSON: for each attempt
"done", or the number of the error that it met.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fyretoolkit.models import sandbox

_MEMORY_BYTES = 256 << 20
_SYSTEM_CALLS = {
    "x86_64": {
        "ptrace": 101,
        "process_vm_readv": 310,
        "mount": 165,
        "io_uring_setup": 425,
        "memfd_create": 319,
    },
    "aarch64": {
        "ptrace": 117,
        "process_vm_readv": 270,
        "mount": 40,
        "io_uring_setup": 425,
        "memfd_create": 279,
    },
}
_PTRACE_SEIZE = 0x4206


def attempts(secret: Path, allowed: Path) -> dict[str, Callable[[], object]]:
    """By name; `read_allowed` and `compute` are what an honest model needs."""
    here, parent = Path.cwd(), os.getppid()
    return {
        "read_allowed": allowed.read_bytes,
        "compute": partial(sum, range(1000)),
        "read_passwd": Path("/etc/passwd").read_bytes,
        "read_secret": secret.read_bytes,
        "read_parents_environment": Path(f"/proc/{parent}/environ").read_bytes,
        "list_root": lambda: [*Path("/").iterdir()],
        "list_beside_allowed": lambda: [*allowed.parent.iterdir()],
        "write_allowed": lambda: os.open(allowed, os.O_WRONLY),
        "write_secret": lambda: os.open(secret, os.O_WRONLY),
        "write_outside": lambda: os.open(secret.parent / "new", os.O_WRONLY | os.O_CREAT),
        "write_here": lambda: os.open(here / "new", os.O_WRONLY | os.O_CREAT),
        "make_folder": (here / "folder").mkdir,
        "remove": allowed.unlink,
        "move": lambda: allowed.rename(here / "moved"),
        "link": lambda: (here / "link").symlink_to(secret),
        "cut": lambda: os.truncate(allowed, 0),
        "chmod": lambda: allowed.chmod(0o777),
        "tcp": lambda: socket.create_connection(("127.0.0.1", 1), timeout=1),
        "tcp_listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53)),
        "fork": _fork,
        "spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
        "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),  # noqa: S606
        "signal_parent": lambda: os.kill(parent, 0),
        "signal_by_file": lambda: fcntl.fcntl(1, fcntl.F_SETOWN, parent),
        "limit_parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "raise_limit": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
        "outlive_parent": lambda: _checked(ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0)),
        "ptrace": lambda: _call("ptrace", _PTRACE_SEIZE, parent, 0, 0),
        "process_vm_readv": lambda: _call("process_vm_readv", parent, 0, 0, 0, 0, 0),
        "mount": lambda: _call("mount", b"none", b"/", b"tmpfs", 0, 0),
        "io_uring": lambda: _call("io_uring_setup", 8, ctypes.create_string_buffer(120)),
        "memory_file": lambda: _call("memfd_create", b"x", 0),
        "much_memory": lambda: mmap.mmap(-1, _MEMORY_BYTES * 2),
    }


def main() -> None:
    """Shut this process in, try everything, tell."""
    request: dict[str, Any] = json.load(sys.stdin)
    secret, allowed = Path(request["secret"]), Path(request["allowed"])
    "".encode("idna")  # imported while the interpreter's files may be root's alone
    sandbox.die_with_parent()
    if request["user"] is not None:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    without = set(request["without"])
    if sandbox.Fence.FILES in without:
        sandbox.confine_files = lambda readable: False
    if sandbox.Fence.SYSTEM_CALLS in without:
        sandbox.filter_system_calls = lambda: False
    standing = set()
    if sandbox.Fence.NAMESPACES not in without and sandbox.leave_network():
        standing.add(sandbox.Fence.NAMESPACES)
    threads = len([*Path("/proc/self/task").iterdir()])
    standing |= sandbox.restrict(sandbox.Bounds(20, _MEMORY_BYTES), [allowed])
    outcomes = {name: _outcome(attempt) for name, attempt in attempts(secret, allowed).items()}
    print(json.dumps({"standing": sorted(standing), "threads": threads, "outcomes": outcomes}))


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "OSError")
    except ValueError:  # how `resource` says that a limit cannot be raised
        return "EPERM"
    return "done"


def _fork() -> None:
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _call(name: str, *arguments: Any) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).syscall(_SYSTEM_CALLS[platform.machine()][name], *arguments))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


if __name__ == "__main__":
    main()
