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


@dataclass(frozen=True, slots=True)
class Queued:
    """What a request would find before it."""

    rows_ahead: float
    """That run before it: of calls in flight, and its organization's share of the queue."""
    rows_next: float
    """That the next calls take, as many as there are slots; what fits those is let in however slow the model is.

    0 while there is no replica: then nobody waits for the model, but for a replica to start.
    """
    requests: int
    bytes: int


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
        self._appointments = Appointments(settings.max_retry_after_s)
        self._usual_rows = 1.0
        self.rate = ServiceRate()

    def admit(self, queued: Queued, *, rows: int, size: int, left_s: float) -> None:
        """Let a request of so many rows and bytes in, which has `left_s` until its deadline.

        Raises:
            PlatformError: `overloaded`, with when to come back.
        """
        self._usual_rows += (rows - self._usual_rows) * _MEMORY
        self.check(queued, size=size, left_s=left_s)

    def check(self, queued: Queued, *, size: int, left_s: float) -> None:
        """The same for a request of which only the size is known.

        Raises:
            PlatformError: `overloaded`, with when to come back.
        """
        wait_s = self.rate.seconds_for(queued.rows_ahead)
        may_wait = queued.rows_ahead < queued.rows_next or not queued.rows_next
        is_late = wait_s > left_s or (wait_s > self._settings.max_wait_s and not may_wait)
        is_full = (
            queued.requests >= self._settings.max_queued
            or queued.bytes + size > self._settings.max_queued_bytes
        )
        if is_late or is_full:
            raise self._refusal(wait_s)

    def _refusal(self, wait_s: float) -> PlatformError:
        takes_s = self.rate.seconds_for(self._usual_rows)
        seconds = self._appointments.next(self._clock(), wait_s=wait_s, takes_s=takes_s, draw=self._draw())
        return PlatformError(
            "overloaded",
            f"The deployment is busy: this request would wait {wait_s:.1f} s. Try again in {seconds} s (Retry-After).",
            retry_after_s=seconds,
        )
