"""How many workers each batch job may have at work: the controller says it, the workers read it."""

from __future__ import annotations

from typing import cast

from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated

_TTL_S = 30


async def write_share(store: Store, workers: int) -> None:
    """Say it; it is forgotten when nobody says it again.

    Raises:
        PlatformError: `unavailable`.
    """
    async with translated():
        await store.redis.set(keys.BATCH_SHARE, str(workers), ex=_TTL_S)


async def read_share(store: Store) -> int | None:
    """What was said last; None: nothing, lately.

    Raises:
        PlatformError: `unavailable`.
    """
    async with translated():
        found = cast("str | None", await store.redis.get(keys.BATCH_SHARE))
    return int(found) if found else None
