"""The moment by which an answer must be there; everything a request waits for is bounded by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fyretoolkit.core.errors import PlatformError


class Deadline:
    """Begins when it is made."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self.ends_at = time.monotonic() + timeout_ms / 1000
        """By the monotonic clock."""

    def part(self, share: float) -> Deadline:
        """One that leaves time for something else before this one: after a share of what is left now."""
        found = Deadline(self._timeout_ms)
        found.ends_at = time.monotonic() + max(self.left_s(), 0.0) * share
        return found

    def left_s(self) -> float:
        """Seconds left; negative once it passed."""
        return self.ends_at - time.monotonic()

    def remaining_s(self) -> float:
        """Seconds left.

        Raises:
            PlatformError: `deadline_exceeded`, none are.
        """
        left = self.left_s()
        if left <= 0:
            raise self.exceeded()
        return left

    @asynccontextmanager
    async def bounding(self) -> AsyncIterator[float]:
        """Ends what runs inside at the deadline; gives the seconds left.

        Raises:
            PlatformError: `deadline_exceeded`.
        """
        left = self.remaining_s()
        try:
            async with asyncio.timeout(left):
                yield left
        except TimeoutError as error:
            raise self.exceeded() from error

    def exceeded(self) -> PlatformError:
        """What a caller is told whose answer was not ready in time."""
        return PlatformError(
            "deadline_exceeded",
            f"The answer was not ready within {self._timeout_ms} ms. Try again, or raise options.timeout_ms.",
        )
