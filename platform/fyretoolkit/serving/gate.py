"""Who may join the queue of a deployment: the arithmetic of `core.admission` with the settings of the platform."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fyretoolkit.core.admission import Appointments, ServiceRate
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import ServingSettings

_MEMORY = 0.1
"""How much the latest request counts in the size of a usual one."""
_MAX_BOOKS = 1000


@dataclass(frozen=True, slots=True)
class Queued:
    """What a request would find before it."""

    org: str
    share: float
    """Of what is served, the part that its organization has, from 0 to 1."""
    rows_ahead: float
    """That run before it: of calls in flight, and its organization's share of the queue."""
    rows_next: float
    """That the next calls take, as many as there are slots; what fits those is let in however slow the model is.

    0 while there is no replica: then nobody waits for the model, but for a replica to start.
    """
    requests: int
    bytes: int
    own_requests: int
    own_bytes: int


class Gate:
    """One deployment's, in one ingress replica."""

    def __init__(
        self,
        settings: ServingSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._books: dict[str, Appointments] = {}
        self._usual_rows = 1.0
        self.rate = ServiceRate()

    def note_rows(self, rows: int) -> None:
        """A request of so many rows came."""
        self._usual_rows += (rows - self._usual_rows) * _MEMORY

    def is_open(self, queued: Queued, *, size: int, left_s: float) -> bool:
        """Whether a request of so many bytes may join, which has `left_s` until its deadline."""
        wait_s = self.rate.seconds_for(queued.rows_ahead)
        may_wait = queued.rows_ahead < queued.rows_next or not queued.rows_next
        is_late = wait_s > left_s or (wait_s > self._settings.max_wait_s and not may_wait)
        return not (is_late or self._is_full(queued, size))

    def refusal(self, queued: Queued) -> PlatformError:
        """What to tell a request that may not join: `overloaded`, with when to come back.

        Each organization has appointments of its own, at its share of the pace.
        """
        if len(self._books) >= _MAX_BOOKS:
            self._books.clear()
        book = self._books.setdefault(queued.org, Appointments(self._settings.max_retry_after_s))
        wait_s = self.rate.seconds_for(queued.rows_ahead)
        takes_s = self.rate.seconds_for(self._usual_rows) / queued.share
        seconds = book.next(self._clock(), wait_s=wait_s, takes_s=takes_s, draw=self._draw())
        return PlatformError(
            "overloaded",
            f"The deployment is busy: this request would wait {wait_s:.1f} s. Try again in {seconds} s (Retry-After).",
            retry_after_s=seconds,
        )

    def _is_full(self, queued: Queued, size: int) -> bool:
        """A full queue is full for those who hold their share of it."""
        most, most_bytes = self._settings.max_queued, self._settings.max_queued_bytes
        if queued.requests < most and queued.bytes + size <= most_bytes:
            return False
        share = queued.share
        return queued.own_requests >= most * share or queued.own_bytes + size > most_bytes * share
