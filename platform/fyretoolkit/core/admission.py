"""Arithmetic of early refusal: how fast work is done, how long a new request would wait, when a refused one may return.

A request that would wait too long is told so at once, while the answer is still of use to its caller. Those who are
refused get appointments one after another at the pace of the service, so that they do not all come back at once:
without them 300 callers told "one second" would be 300 callers again a second later.
"""

from __future__ import annotations

from math import ceil, exp

_MEMORY_S = 1.0
"""Busy seconds after which an observation counts for 1/e."""


class ServiceRate:
    """Work done per second while there is work, over about the last second of it.

    While nothing gets done the rate falls, to what it would be if one unit of work were done by now, and never to 0:
    nobody knows how long a first call takes that has not ended, only that it takes this long at least. With 0 as the
    rate the queue would be open to all ("nothing is known") or to nobody, also once the model has become fast.
    """

    def __init__(self, expected_per_s: float | None = None) -> None:
        """`expected_per_s`: what counts before the first observation."""
        self._expected_per_s = expected_per_s
        self._work = 0.0
        self._busy_s = 0.0
        self._fruitless_s = 0.0
        """Busy seconds since any work was done."""
        self._done_at: float | None = None

    def note(self, work: float, *, began: float, ended: float, is_full: bool = True) -> None:
        """A call of this much work took from `began` to `ended`; calls that overlap share the time.

        A call that was not full, with nothing waiting behind it, says how long the way there and back is, and of the
        work only that at least so much can be done.
        """
        known = self.per_s
        if not is_full and (known is None or work <= known * (ended - began)):
            return
        since = began if self._done_at is None else max(began, self._done_at)
        self._done_at = ended
        busy_s = max(ended - since, 1e-6)
        kept = exp(-busy_s / _MEMORY_S)
        self._work = self._work * kept + work
        self._busy_s = self._busy_s * kept + busy_s
        self._fruitless_s = 0.0 if work else self._fruitless_s + busy_s

    @property
    def per_s(self) -> float | None:
        """None while nothing is known, else more than 0."""
        if not self._busy_s:
            return self._expected_per_s
        done_per_s = self._work / self._busy_s
        return max(done_per_s, 1 / self._fruitless_s) if self._fruitless_s else done_per_s

    def seconds_for(self, work: float) -> float:
        """How long this much work takes; 0 before anything is known."""
        rate = self.per_s
        return work / rate if rate else 0.0


class Appointments:
    """When refused callers may come back: one after another, at the pace of the service."""

    def __init__(self, longest_s: float) -> None:
        """Nobody is sent away for longer than `longest_s`; beyond it, appointments lie anywhere in its second half."""
        self._longest_s = longest_s
        self._booked_until = 0.0

    def next(self, now: float, *, wait_s: float, takes_s: float, draw: float) -> int:
        """Whole seconds, at least 1, after which a caller may try again.

        Args:
            now: a monotonic clock, in seconds.
            wait_s: how long the queue takes as it is.
            takes_s: how long the caller's own work takes.
            draw: a number from [0, 1), for those beyond the last appointment.
        """
        start = max(self._booked_until, now + wait_s)
        if start - now > self._longest_s:
            return ceil(self._longest_s * (1 + draw) / 2)
        self._booked_until = start + takes_s
        return max(1, ceil(start - now))
