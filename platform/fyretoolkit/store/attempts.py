"""How many controllers have begun a piece of work: one that ends its controller must not end every next one too."""

from __future__ import annotations

from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated

_TTL_S = 3600


async def count_attempt(store: Store, org: str, name: str) -> int:
    """Count one attempt more, and how many there were within the hour after the last.

    Raises:
        PlatformError: `unavailable`.
    """
    key = keys.attempts(org, name)
    async with translated():
        pipeline = store.redis.pipeline(transaction=True)
        pipeline.incr(key)
        pipeline.expire(key, _TTL_S)
        count, _ = await pipeline.execute()
    return int(count)
