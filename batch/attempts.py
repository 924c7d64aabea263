"""Which shards a worker died of, as far as anyone knows: a file in the job's folder for each that is being worked on.

A worker writes a mark before it begins and takes the file away when it ends, however it ends but by dying. So a mark
that nobody holds the lock of is a death, of whatever cause. Nothing is synced: a mark must outlive its process, not the
machine. Redis was rejected: a call more for every shard, and keys that must be expired with the job's.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = "working"
_POISONED = "poisoned"
_ISOLATING = "isolating"
_MARK = b"."


class Attempts:
    """Those of one job, over all its runs and workers."""

    def __init__(self, job_folder: Path) -> None:
        self.folder = job_folder / _FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def at(self, shard: int) -> Iterator[int]:
        """Around the work on a shard: how many workers died of it so far, or of something else meanwhile.

        0 as well while another worker, which lives, is at the same shard.
        """
        path = self.folder / f"{shard:06d}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        is_held = _lock(descriptor)
        try:
            deaths = os.fstat(descriptor).st_size if is_held else 0
            if is_held:
                os.write(descriptor, _MARK)
            yield deaths
        finally:
            if is_held:
                path.unlink(missing_ok=True)
            os.close(descriptor)

    def deaths(self, shard: int) -> int:
        """How many workers died of it so far; 0 as well while one that lives is at it."""
        path = self.folder / f"{shard:06d}"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            return os.fstat(descriptor).st_size if _lock(descriptor) else 0
        finally:
            os.close(descriptor)

    def note_life(self) -> None:
        """A worker that finds out which of its rows kill gets on, though no shard is done."""
        (self.folder / _ISOLATING).touch()

    @property
    def seen_at(self) -> float:
        """When `note_life` was last called, by the clock of `time.time`; 0: never."""
        try:
            return (self.folder / _ISOLATING).stat().st_mtime
        except FileNotFoundError:
            return 0

    @property
    def is_poisoned(self) -> bool:
        """Whether a row of this job was found to kill: there may be more."""
        return (self.folder / _POISONED).exists()

    def note_poison(self) -> None:
        """From now on no worker of the job loads the model in its own process."""
        (self.folder / _POISONED).touch()


def _lock(descriptor: int) -> bool:
    """Lock the file; whether it is this process's now; where locks are not to be had, it is believed to be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
