"""Both clients under the same scenarios: coroutines as they are, and the functions that the generator makes of them.

The synchronous ones run in a thread, since the API runs in the loop of the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fyretoolkit import AsyncClient, Client
from fyretoolkit.settings import DEMO_KEY
from scripts.twins import without_async
from tests.support import client_scenarios

WORLDS = ("async", "sync")
Scenario = Callable[[Any, Any], Awaitable[None]]


def synchronous(module: ModuleType) -> ModuleType:
    """The module without `async` and `await`, made as the synchronous client is."""
    assert module.__file__ is not None
    twin = ModuleType(module.__name__ + "_synchronous")
    source = without_async(Path(module.__file__).read_text("utf-8"))
    exec(compile(source, module.__file__, "exec"), twin.__dict__)  # noqa: S102 - our own text
    return twin


_SYNCHRONOUS = synchronous(client_scenarios)


async def run_scenario(world: str, scenario: str, url: str, given: Any, **options: Any) -> None:
    """Runs one of `client_scenarios.py` with a client of its own."""
    if world == "async":
        async with AsyncClient(DEMO_KEY, base_url=url, **options) as client:
            await getattr(client_scenarios, scenario)(client, given)
        return

    def run() -> None:
        with Client(DEMO_KEY, base_url=url, **options) as client:
            getattr(_SYNCHRONOUS, scenario)(client, given)

    await asyncio.to_thread(run)


async def call(world: str, url: str, make: Callable[[Any], Any], **options: Any) -> Any:
    """What one call of a client of its own answers."""
    if world == "async":
        async with AsyncClient(DEMO_KEY, base_url=url, **options) as client:
            return await make(client)

    def run() -> Any:
        with Client(DEMO_KEY, base_url=url, **options) as client:
            return make(client)

    return await asyncio.to_thread(run)
