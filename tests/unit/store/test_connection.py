"""The pool of connections: what a long-lived process holds from its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from fyretoolkit.store.connection import Store


def test_held_connections_are_there_before_tasks_meet(with_store: Callable[..., Any]) -> None:
    """Of a process that runs for weeks no coincidence opens one more."""

    async def scenario(store: Store) -> tuple[int, int]:
        await store.hold(5)
        held = len(await store.redis.client_list())
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(store.now_ms)
        return held, len(await store.redis.client_list())

    assert with_store(scenario) == (5, 5)


def test_an_absent_redis_fails_the_first_call_and_not_the_holding() -> None:
    """A process starts beside a Redis that comes a moment later."""

    async def scenario() -> None:
        store = Store("unix:///nowhere/redis.sock")
        await store.hold(2)
        await store.close()

    anyio.run(scenario)
