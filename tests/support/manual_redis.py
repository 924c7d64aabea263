"""A Redis whose clock stands still until a test moves it: the real scripts, told another time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import anyio

from fyretoolkit.store import connection
from fyretoolkit.store.connection import Store

_CLOCK = "test:clock"
_EPOCH_US = 1_800_000_000_000_000


@contextmanager
def manual_scripts() -> Iterator[None]:
    """Inside, every script of a new `Store` reads `ManualClock` where it would call TIME."""
    real = connection._source

    def source(name: str) -> str:
        return real(name).replace("redis.call('TIME')", f"redis.call('LRANGE', '{_CLOCK}', 0, 1)")

    with patch.object(connection, "_source", source):
        yield


class ManualClock:
    """Redis's clock for one `Store`, in microseconds; `set` it before the first script runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.now_us = _EPOCH_US

    @property
    def now(self) -> float:
        """Seconds since the clock was made."""
        return (self.now_us - _EPOCH_US) / 1e6

    async def set(self, now_us: int = _EPOCH_US) -> None:
        """Show another time."""
        self.now_us = now_us
        seconds, microseconds = divmod(now_us, 1_000_000)
        pipeline = self._store.redis.pipeline()
        pipeline.delete(_CLOCK)
        pipeline.rpush(_CLOCK, seconds, microseconds)
        await pipeline.execute()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.set(self.now_us + round(seconds * 1_000_000))


def run_manually(url: str, scenario: Callable[[Store, ManualClock], Awaitable[None]]) -> None:
    """Run a coroutine function over an empty Redis and its clock."""

    async def main() -> None:
        store = Store(url)
        try:
            await store.redis.flushall()
            await store.redis.config_set("appendfsync", "no")  # thousands of steps, and no test of durability
            clock = ManualClock(store)
            await clock.set()
            await scenario(store, clock)
        finally:
            await store.redis.config_set("appendfsync", "always")
            await store.close()

    with manual_scripts():
        anyio.run(main)
