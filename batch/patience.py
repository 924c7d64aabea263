"""How long a run may show no progress before it is called hung: the same for a crew and for a pool.

A shard that is done is progress, and so is what a worker notes while it finds out which rows hang (`isolation.py`):
that takes minutes in which no shard is done.
"""

from __future__ import annotations

import time

from batch.attempts import Attempts
from batch.runs import Run

_NO_PROGRESS_S = 300.0
"""Workers that finish no shard of the configured size for this long hang."""


def patience_s(run: Run) -> float:
    """How long a run may show no progress: larger shards, of a large input, may take longer."""
    largest = max((shard.end - shard.start for shard in run.plan.shards if not shard.is_oversized), default=0)
    return _NO_PROGRESS_S * max(1.0, largest / run.settings.batch.shard_target_bytes)


class Patience:
    """With those who work on a run's shards; it begins now."""

    def __init__(self, run: Run) -> None:
        self._limit_s = patience_s(run)
        self._attempts = Attempts(run.folder)
        self.note_progress()

    def note_progress(self) -> None:
        """A shard is done."""
        self._moved_at = time.monotonic()

    def check(self) -> None:
        """Raise `TimeoutError` if nothing gets on."""
        if time.monotonic() - self._moved_at > self._limit_s < time.time() - self._attempts.seen_at:
            raise TimeoutError(f"no shard was done for {self._limit_s:.0f} s")
