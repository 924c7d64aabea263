"""How an actor that runs for ever ends when somebody asks it to."""

from __future__ import annotations

import ctypes
import os
import signal

_SIG_ERR = ctypes.c_void_p(-1).value


def end_at_sigterm() -> None:
    """SIGTERM ends this process at once from now on, as SIGKILL does, and Ray starts its actor again.

    Ray's own handler waits for the actor's calls, which an endless one never lets end: such an actor answered nobody
    any more and was not replaced. What it does is in Redis. By the C library, since Python sets handlers in the main
    thread alone, and an actor with coroutines is made in another.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    if library.signal(signal.SIGTERM, signal.SIG_DFL.value) == _SIG_ERR:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
