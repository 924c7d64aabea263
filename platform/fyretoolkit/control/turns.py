"""Whose turn it is: so many pieces of work at once, so many of one organization, the others wait.

Of the organizations that wait, the one that was served least recently is next: a hundred registrations of one delay
the first of another by no more than one of them. Who stops waiting is forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Belongs to one event loop."""

    def __init__(self, at_once: int, *, of_one: int) -> None:
        self._at_once = at_once
        self._of_one = of_one
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._served: dict[str, int] = {}
        self._count = 0

    @property
    def taken(self) -> int:
        """How many turns are held now."""
        return self._taken.total()

    @asynccontextmanager
    async def turn(self, org: str) -> AsyncIterator[None]:
        """Wait for a turn of this organization and hold it."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((org, come))
        self._call_next()
        try:
            await come
            yield
        finally:
            if come.done() and not come.cancelled():
                self._give_back(org)
            else:
                self._waiting.remove((org, come))

    def _give_back(self, org: str) -> None:
        self._taken[org] -= 1
        self._taken += Counter()  # drops those at zero
        self._call_next()

    def _call_next(self) -> None:
        while self._taken.total() < self._at_once:
            able = [
                entry
                for entry in self._waiting
                if self._taken[entry[0]] < self._of_one and not entry[1].cancelled()
            ]
            if not able:
                break
            org, come = entry = min(able, key=lambda entry: self._served.get(entry[0], 0))
            self._waiting.remove(entry)
            self._count += 1
            self._served[org] = self._count
            self._taken[org] += 1
            come.set_result(None)
        if not self._waiting and not self._taken:
            self._served.clear()
