"""How fast a run's shards get on, without what it takes to begin: the start of hands, and of the next runner.

With the start in it, a job of fifty seconds was now and then taken for one of five minutes (decisions/0015).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Of all workers together, since each of them has done a shard."""

    seconds: float = 0.0
    """0 as long as one of them has done none."""
    shards: int = 1
    """Those done since then, and one that is worked on: so the pace falls while nothing gets done."""


class Pacing:
    """Told by the workers' threads what they do; a pace begins anew with the first shard of each worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent = list[object]()
        self._began_at: float | None = None
        self._shards = 1

    def note_start(self, worker: object) -> None:
        """It works from now on, and has done nothing."""
        with self._lock:
            self._silent.append(worker)

    def note_done(self, worker: object) -> None:
        """It has done a shard."""
        with self._lock:
            self._shards += 1
            self._hear(worker)

    def note_loss(self, worker: object) -> None:
        """It does no more."""
        with self._lock:
            self._hear(worker)

    def _hear(self, worker: object) -> None:
        if worker in self._silent:
            self._silent.remove(worker)
            self._began_at, self._shards = time.monotonic(), 1

    @property
    def pace(self) -> Pace:
        """Until now."""
        with self._lock:
            if self._silent or self._began_at is None:
                return Pace()
            return Pace(time.monotonic() - self._began_at, self._shards)
