"""What one replica tells the autoscaler of itself: how busy its model is, and how long the queues before it are.

The queues are in the ingress replicas, where Ray Serve cannot see them; each says with every call how long its own is
(`serving.replica.Load`), and `core.autoscaling` decides by what the replicas pass on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from fyretoolkit.serving.replica import Load

_FRESH_S = 2.0
"""How long after an ingress's last call what it said still counts."""


@dataclass(slots=True)
class _Told:
    load: Load
    at: float
    calls: int
    """Of this ingress, being answered. While there are any, what it said last counts: a slow model is told rarely."""


class _Meter:
    """How much of the last `window_s` one thing was done, by one thread at a time; any other may look."""

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self._window_s = window_s
        self._clock = clock
        self._spent: tuple[float, float | None] = (0.0, None)
        """Seconds so far, and since when it is being done once more: one value, so both change at once."""
        self._marks = deque([(clock(), 0.0)])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around each time that it is done."""
        before, started = self._spent[0], self._clock()
        self._spent = before, started
        try:
            yield
        finally:
            self._spent = before + self._clock() - started, None

    def share(self) -> float:
        """From 0 to 1."""
        now, (spent, since) = self._clock(), self._spent
        total = spent + (max(now - since, 0.0) if since is not None else 0.0)
        self._marks.append((now, total))
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._window_s:
            self._marks.popleft()
        begun, before = self._marks[0]
        return min((total - before) / (now - begun), 1.0) if now > begun else 0.0


class ReplicaLoad:
    """The busy time and the queues of one replica.

    `answering`, `writing` and `stats` belong to the event loop, `computing` to the thread that runs the model, one at a
    time.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`window_s`: the time that the busy share is measured over."""
        self._clock = clock
        self._computing = _Meter(window_s, clock)
        self._writing = _Meter(window_s, clock)
        self._told: dict[str, _Told] = {}

    @contextmanager
    def answering(self, load: Load) -> Iterator[None]:
        """Around each call: what its ingress said of itself."""
        told = self._told.get(load.source)
        if told is None:
            self._forget_old()
            told = self._told[load.source] = _Told(load, self._clock(), 0)
        told.load, told.at = load, self._clock()
        told.calls += 1
        try:
            yield
        finally:
            told.calls -= 1
            told.at = self._clock()

    def computing(self) -> AbstractContextManager[None]:
        """Around each run of the model."""
        return self._computing.running()

    def writing(self) -> AbstractContextManager[None]:
        """Around each time that results are written as JSON, which happens beside the model's next run."""
        return self._writing.running()

    def busy_share(self) -> float:
        """Of the window, 0 to 1: of the model or of the writing, whichever is more."""
        return max(self._computing.share(), self._writing.share())

    def stats(self) -> dict[str, float]:
        """`busy` (as `busy_share`), `waiting_s` (the longest) and `queued` (the sum) of the queues."""
        self._forget_old()
        loads = [told.load for told in self._told.values()]
        return {
            "busy": self.busy_share(),
            "waiting_s": max((load.waiting_s for load in loads), default=0.0),
            "queued": float(sum(load.queued for load in loads)),
        }

    def _forget_old(self) -> None:
        limit = self._clock() - _FRESH_S
        for source in [name for name, told in self._told.items() if not told.calls and told.at < limit]:
            del self._told[source]
