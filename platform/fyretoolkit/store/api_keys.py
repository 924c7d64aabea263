"""API keys in Redis: looked up by id, never stored in clear.

A key is `sk_live_<id>_<secret>`; what is kept is the SHA-256 of the whole. A slow hash (bcrypt, argon2) would add
nothing: the secret has 192 random bits, and the check is on the path of every request.
"""

from __future__ import annotations

import hashlib

from fyretoolkit.core.organizations import ApiKey
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import create
from fyretoolkit.store.records import from_hash, to_hash


def key_digest(key: str) -> str:
    """The SHA-256 by which a key is kept."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


class ApiKeyStore:
    """The repository of API keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, key: ApiKey) -> None:
        """Write a key unless one with this id is there."""
        await create(
            self._store,
            record_key=keys.api_key(key.id),
            fields=to_hash(key),
            lists={keys.org_keys(key.org): key.id},
            change=("api_key", key.org, key.id),
        )

    async def get(self, key_id: str) -> ApiKey | None:
        """The stored key of this id."""
        stored = await self._store.read_hash(keys.api_key(key_id))
        return from_hash(ApiKey, stored) if stored else None
