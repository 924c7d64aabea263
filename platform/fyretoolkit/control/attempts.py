"""When the turn of each preparation came. Its time is measured from there, however long it waited.

Who takes a controller down with it is tried by few: the attempts are counted in the store, one for each controller.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection

from fyretoolkit.core.errors import PlatformError

MOST = 3
"""Controllers that try one preparation."""


class Attempts:
    """Of one controller. Names are those of its errands."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}

    async def begin(self, name: str, count: Callable[[], Awaitable[int]]) -> None:
        """Its turn has come; again, nothing happens. `count`: counts in the store, and says how many there were.

        Raises:
            PlatformError: `load_timeout`, it was tried too often; `unavailable`.
        """
        if name in self._begun:
            return
        if await count() > MOST:
            raise PlatformError(
                "load_timeout",
                f"The platform was interrupted {MOST} times while it prepared the model. "
                "Use a smaller model, or send it again in an hour.",
            )
        self._begun[name] = time.monotonic()

    def begun_at(self, name: str) -> float:
        """When its turn came, by the clock as it is set now (Unix seconds); now, while it waits."""
        now = time.monotonic()
        return time.time() - (now - self._begun.get(name, now))

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._begun = {name: at for name, at in self._begun.items() if name in names}
