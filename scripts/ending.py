"""How a benchmark or trial ends when it is asked to: in order, so that what it started ends with it.

Python ends at SIGTERM and SIGHUP without another line run, and a platform, which is a session of its own, stays. As an
exception they close what `with` and `finally` would close. The first is enough: a second one, of whoever is impatient
or of `timeout`, must not break off what the first began. SIGKILL leaves a platform behind; `scripts/down --home` ends
it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within it, the first signal that ends a process raises `SystemExit` with the code that a shell gives it."""
    is_ending = False

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
