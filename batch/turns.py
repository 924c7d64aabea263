"""Turns: of a job's workers, as many are at work as real time leaves room for; the others wait, and use no CPU.

A turn is the lock of a numbered file in the job's folder, and only numbers below the job's share may be held: a worker
that dies gives its turn back, one that is told of a smaller share does so at its next call of the model. Ending workers
was rejected: a new one needs seconds of both cores to start, just when real time is short of them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_EVERY_S = 0.1
_ASK_EVERY_S = 1.0
_WAITING = "turn-waited-for"


class Turns:
    """One worker's way to be at work. Not thread-safe."""

    def __init__(self, folder: Path, most: int, ask_share: Callable[[], int | None]) -> None:
        """`ask_share`: how many workers of the job may be at work, None if nobody says; `most` until then."""
        self._folder = folder
        self._share = most
        self._ask_share = ask_share
        self._asked_at = float("-inf")
        self._held: tuple[int, int] | None = None

    @property
    def share(self) -> int:
        """How many workers of the job may be at work, as was said within a second."""
        if time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._share = self._ask_share() or self._share
            self._asked_at = time.monotonic()
        return self._share

    @contextmanager
    def held(self, check: Callable[[], None]) -> Iterator[None]:
        """Around the work on a shard; see `take`, which is to be called within from time to time."""
        self.take(check)
        try:
            yield
        finally:
            self.give()

    def take(self, check: Callable[[], None]) -> None:
        """Have a turn, or keep it; wait while others have all there are. `check` is called meanwhile and may raise.

        Who gave one up a moment ago lets those who wait go first: each has a shard that nobody else will take.
        """
        if self._is_held():
            return
        self.give()
        waiting = self._open(_WAITING)
        try:
            if not _lock(waiting, fcntl.LOCK_EX):
                time.sleep(2 * _LOOK_EVERY_S)
            _lock(waiting, fcntl.LOCK_SH)
            while not self._has_taken():
                check()
                time.sleep(_LOOK_EVERY_S)
        finally:
            os.close(waiting)

    def give(self) -> None:
        """Let another worker of the job have it."""
        if self._held is not None:
            os.close(self._held[1])
            self._held = None

    def _is_held(self) -> bool:
        return self._held is not None and self._held[0] < self.share

    def _has_taken(self) -> bool:
        for number in range(self.share):
            descriptor = self._open(f"turn-{number}")
            if _lock(descriptor, fcntl.LOCK_EX):
                self._held = (number, descriptor)
                return True
            os.close(descriptor)
        return False

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # where locks are not to be had, everybody works
        return True
    return True
