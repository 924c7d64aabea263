"""The system calls a model needs once everything is imported, and a seccomp filter that lets nothing else through.

A list of what is allowed, not of what is forbidden: new calls (io_uring opens sockets too) stay out by themselves. A
call that is not listed fails with ENOSYS, as on a kernel that does not have it, which every C library can live with;
where one that is listed is used for something else (a process instead of a thread, a file to write, a signal to
somebody else), it fails with EPERM. Nobody is killed: the model gets an error, and with it the caller a reason.
Source: seccomp(2); the kernel's syscall tables for x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_SET_FILTER, _ALL_THREADS = 1, 1
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
"""x86-64 has a second set of numbers from here on."""

_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 1, 2, 3, 1030
_SELF = 0
"""Where a call takes the number of a process."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How one kind of processor is told, and which column of the table is its own."""

    audit_number: int
    seccomp_number: int
    column: int


_MACHINES = {"x86_64": Machine(0xC000003E, 317, 0), "aarch64": Machine(0xC00000B7, 277, 1)}

PLAIN = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169),
    "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "getppid": (110, 173), "sigaltstack": (131, 132), "statfs": (137, 43), "fstatfs": (138, 44),
    "gettid": (186, 178), "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78),
    "faccessat": (269, 48), "ppoll": (271, 73), "set_robust_list": (273, 99), "getcpu": (309, 168),
    "getrandom": (318, 278), "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
}  # fmt: skip
"""Reading, memory, threads, clocks: x86-64's number and arm64's."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A call that is allowed for some values of one argument."""

    numbers: tuple[int | None, int | None]
    argument: int
    equal_to: tuple[int, ...] = ()
    any_bit_of: int = 0
    no_bit_of: int = 0


def _rules() -> tuple[_Rule, ...]:
    return (
        _Rule((2, None), 1, no_bit_of=_WRITING),  # open
        _Rule((257, 56), 2, no_bit_of=_WRITING),  # openat
        _Rule((56, 220), 0, any_bit_of=_CLONE_THREAD),  # clone; clone3 hides its flags from filters
        # fcntl: F_SETOWN and F_SETSIG would send signals
        _Rule((72, 25), 1, equal_to=(_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)),
        _Rule((234, 131), 0, equal_to=(os.getpid(),)),  # tgkill, as abort() does
        _Rule((302, 261), 0, equal_to=(_SELF,)),  # prlimit64
    )


def filter_system_calls() -> bool:
    """From now on the threads of this process can do little but compute, for good. False: not on this system.

    The process must have given up new privileges before (`PR_SET_NO_NEW_PRIVS`).
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    instructions = list(_program(machine))
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.syscall(machine.seccomp_number, _SET_FILTER, _ALL_THREADS, program) == 0)


Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, value"""


def _program(machine: Machine) -> Iterator[Instruction]:
    yield _LOAD, 0, 0, _MACHINE_AT
    yield _JUMP_EQUAL, 1, 0, machine.audit_number
    yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS
    yield _LOAD, 0, 0, _NUMBER_AT
    yield _JUMP_GREATER_EQUAL, 0, 1, _X32
    yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS
    for numbers in PLAIN.values():
        number = numbers[machine.column]
        if number is not None:
            yield _JUMP_EQUAL, 0, 1, number
            yield _RETURN, 0, 0, _ALLOW
    for rule in _rules():
        number = rule.numbers[machine.column]
        if number is not None:
            yield from _compiled(rule, number)
    yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS


def _compiled(rule: _Rule, number: int) -> Iterator[Instruction]:
    """What decides about one call, all of it: after it comes the next call's."""
    body: list[Instruction] = [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * rule.argument)
    ]  # the lower half, little-endian
    if rule.equal_to:
        for left, value in reversed(list(enumerate(reversed(rule.equal_to)))):
            body.append((_JUMP_EQUAL, left + 1, 0, value))  # over those that are left, and the refusal
    elif rule.any_bit_of:
        body.append((_JUMP_ANY_BIT, 1, 0, rule.any_bit_of))
    else:
        body.append((_JUMP_ANY_BIT, 0, 1, rule.no_bit_of))
    body += [(_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    yield _JUMP_EQUAL, 0, len(body), number
    yield from body
