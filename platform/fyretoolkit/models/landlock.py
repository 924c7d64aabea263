"""Landlock: this process gives up every file but some that it may read, and TCP; for good, without privileges.

The kernel's own rules for a program that confines itself, since Linux 5.13; what it can confine grew with its version.
A chroot or a mount namespace was rejected: both need privileges that a container does not give, and a root to be put
together. Source: landlock(7); include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every processor."""
_ASK_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_FILE_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""All that there are: execute, write, read, list, remove, make; since 2 move, since 3 cut, since 5 control devices."""
_NET_SINCE, _BIND_AND_CONNECT_TCP = 4, 3
_SCOPE_SINCE, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 3


def landlock_version() -> int:
    """Of this kernel; 0 if it has none, or has it switched off."""
    return max(0, _call(_CREATE_RULESET, None, 0, _ASK_VERSION))


def confine_files(readable: Sequence[Path]) -> bool:
    """From now on this thread reads what is at or under these paths and touches no other file. False: not here.

    The process must have given up new privileges before (`PR_SET_NO_NEW_PRIVS`).
    """
    version = landlock_version()
    if version == 0:
        return False
    rights = sum(bits for since, bits in _FILE_RIGHTS_BY_VERSION.items() if since <= version)
    net = _BIND_AND_CONNECT_TCP if version >= _NET_SINCE else 0
    scope = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPE_SINCE else 0
    # A kernel takes the structure of a later one as long as what it does not know is zero.
    attributes = struct.pack("=QQQ", rights, net, scope)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            with suppress(FileNotFoundError, PermissionError):  # it could not be read before either
                _let_read(ruleset, path)
        return _call(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _let_read(ruleset: int, path: Path) -> None:
    there = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)
        if _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, there), 0) != 0:
            raise OSError(ctypes.get_errno(), f"landlock_add_rule: {path}")
    finally:
        os.close(there)


def _call(number: int, *arguments: int | bytes | None) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.syscall(number, *arguments)
    return result
