"""Repositories on the real embedded Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from fyretoolkit.store.connection import Store

Scenario = Callable[[Store], Awaitable[Any]]


@pytest.fixture
def with_store(redis_url: str) -> Callable[[Scenario], Any]:
    """Run a coroutine function over a store of its own event loop."""

    def run(scenario: Scenario) -> Any:
        async def main() -> Any:
            store = Store(redis_url)
            try:
                return await scenario(store)
            finally:
                await store.close()

        return anyio.run(main)

    return run
