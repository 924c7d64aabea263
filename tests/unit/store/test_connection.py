"""The pool of connections: what a long-lived process holds from its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import redis
from redis.asyncio.client import PubSub

from fyretoolkit.store.connection import Store


def test_held_connections_are_there_before_tasks_meet(with_store: Callable[..., Any], redis_url: str) -> None:
    """Of a process that runs for weeks no coincidence opens one more."""
    with redis.Redis.from_url(redis_url) as client:
        others = {each["id"] for each in client.client_list()}  # an earlier test's may take a moment to go

    async def count(store: Store) -> int:
        return len({each["id"] for each in await store.redis.client_list()} - others)

    async def scenario(store: Store) -> tuple[int, int]:
        await store.hold(5)
        held = await count(store)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(store.now_ms)
        return held, await count(store)

    assert with_store(scenario) == (5, 5)


def test_an_absent_redis_fails_the_first_call_and_not_the_holding() -> None:
    """A process starts beside a Redis that comes a moment later."""

    async def scenario() -> None:
        store = Store("unix:///nowhere/redis.sock")
        await store.hold(2)
        await store.close()

    anyio.run(scenario)


def test_a_cancellation_that_redis_py_swallows_is_heard(
    with_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever listens is cancelled once, by its task group, and would wait for a message for ever."""
    subscribe = PubSub.subscribe

    async def swallowing(changes: PubSub, *channels: str) -> None:
        connecting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await subscribe(changes, *channels)

    async def listen(store: Store) -> None:
        async with store.subscribe() as changes:
            async for _ in changes.listen():
                pass

    async def scenario(store: Store) -> bool:
        task = asyncio.create_task(listen(store))
        await connecting.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        return task.cancelled()

    connecting = asyncio.Event()
    monkeypatch.setattr(PubSub, "subscribe", swallowing)
    assert with_store(scenario)
