"""The one door to Redis: a client, the Lua scripts, and the errors translated.

Every atomic change is one script in `scripts/`, checked for the writer's epoch first. Redis errors become
`PlatformError("unavailable")` here, so that no other module knows redis-py's exception tree.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store import keys

RETRY_AFTER_S = 2
_SOCKET_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 64


_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


@cache
def _source(name: str) -> str:
    """A script; a line `-- include NAME` stands for the functions in `scripts/included/NAME.lua`."""
    scripts = resources.files("fyretoolkit.store").joinpath("scripts")
    text = scripts.joinpath(f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda line: scripts.joinpath("included", f"{line[1]}.lua").read_text("utf-8"), text)


class Store:
    """A connection pool to Redis; one for each event loop.

    Reads and scripts raise `PlatformError("unavailable")` when Redis does not answer: the change may or may not have
    happened, so every script is safe to send again.
    """

    def __init__(self, url: str) -> None:
        # One that waits for a free connection: redis-py's default refuses the 101st call at the same time.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=_SOCKET_TIMEOUT_S,
            decode_responses=True,
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_SOCKET_TIMEOUT_S,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=2),
        )
        self._redis = Redis.from_pool(pool)
        self._scripts: dict[str, Any] = {}

    @property
    def redis(self) -> Redis:
        """The client itself, for commands that need no script."""
        return self._redis

    async def hold(self, connections: int) -> None:
        """Open this many connections now, at most `_MAX_CONNECTIONS`, and keep them.

        For a process that lives long: its tasks take one more the first time that so many of them happen to ask at
        once, which may be hours after the start. Nothing is raised while Redis is away.
        """
        await asyncio.gather(*(self._redis.ping() for _ in range(connections)), return_exceptions=True)

    async def run(self, script: str, script_keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Run `scripts/<script>.lua` in one atomic step."""
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(_source(script))
        async with translated():
            return await self._scripts[script](keys=list(script_keys), args=list(arguments))

    async def read_hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty if it does not exist."""
        async with translated():
            return await cast(Awaitable[dict[str, str]], self._redis.hgetall(key))

    async def read_hashes(self, hash_keys: Sequence[str]) -> list[dict[str, str]]:
        """All fields of several hashes, in order, in one round trip."""
        if not hash_keys:
            return []
        async with translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in hash_keys:
                pipeline.hgetall(key)
            return cast(list[dict[str, str]], await pipeline.execute())

    async def read_page(self, key: str, limit: int, *, below: str | None = None) -> list[str]:
        """Members of a lexically sorted set, greatest first, at most `limit`, all less than `below`."""
        top = f"({below}" if below else "+"
        async with translated():
            return cast(list[str], await self._redis.zrevrangebylex(key, top, "-", start=0, num=limit))

    async def remove_members(self, key: str, members: Sequence[str]) -> None:
        """Take members out of a sorted set."""
        if members:
            async with translated():
                await self._redis.zrem(key, *members)

    async def read_text(self, key: str) -> str | None:
        """A string value."""
        async with translated():
            return cast("str | None", await self._redis.get(key))

    async def read_members(self, key: str) -> list[tuple[str, str]]:
        """A set of `<org> <id>` members, as pairs."""
        async with translated():
            members = await cast(Awaitable[set[str]], self._redis.smembers(key))
        return [(org, identifier) for org, _, identifier in (member.partition(" ") for member in members)]

    async def now_ms(self) -> int:
        """Redis's clock: the only one that leases are measured by."""
        async with translated():
            seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    @asynccontextmanager
    async def subscribe(self, *more: str) -> AsyncIterator[PubSub]:
        """Messages of the changes channel, and of `more`. A lost connection raises; callers poll as well.

        A cancellation that comes meanwhile is heard: redis-py swallows one while it connects, and whoever then waits
        for messages would wait for ever, since a task group cancels its tasks once.
        """
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            async with translated():
                await pubsub.subscribe(keys.CHANGES_CHANNEL, *more)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
            yield pubsub
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close the pool."""
        await self._redis.aclose()


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis's exceptions become the platform's."""
    try:
        yield
    except RedisError as error:
        raise PlatformError(
            "unavailable",
            "The platform's store does not answer. Try again after Retry-After seconds.",
            retry_after_s=RETRY_AFTER_S,
        ) from error


def change_message(kind: str, org: str, identifier: str) -> str:
    """The text published when a resource changed."""
    return json.dumps({"kind": kind, "org": org, "id": identifier})


def script_argument(spec: Mapping[str, object]) -> str:
    """One JSON argument for a script; entries that are None are left out."""
    return json.dumps({name: value for name, value in spec.items() if value is not None})
