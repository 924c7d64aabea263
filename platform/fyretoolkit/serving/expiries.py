"""Ends requests at their deadlines: one timer for all that end within the same hundredth of a second.

A timer a request costs more than queueing it. Here a request ends up to a hundredth of a second after its deadline,
never before, and one that was answered leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fyretoolkit.serving.joining import Request

_SLOTS_A_SECOND = 100


class Expiries:
    """Of the requests of one coalescer. Belongs to one event loop."""

    def __init__(self, expire: Callable[[Request], None]) -> None:
        self._expire = expire
        self._slots: dict[int, set[Request]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, request: Request) -> None:
        """`expire` is called with it at its deadline, unless it is discarded before."""
        slot = int(request.deadline.ends_at * _SLOTS_A_SECOND) + 1
        requests = self._slots.get(slot)
        if requests is None:
            requests = self._slots[slot] = set()
            left_s = slot / _SLOTS_A_SECOND - time.monotonic()
            loop = asyncio.get_running_loop()
            self._timers[slot] = loop.call_later(max(left_s, 0.0), self._end, slot)
        requests.add(request)
        request.ending_with = requests

    def discard(self, request: Request) -> None:
        """It needs no end any more."""
        if request.ending_with is not None:
            request.ending_with.discard(request)
            request.ending_with = None

    def close(self) -> None:
        """Nothing more is expired."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._slots.clear()

    def _end(self, slot: int) -> None:
        del self._timers[slot]
        for request in tuple(self._slots.pop(slot)):
            self._expire(request)
