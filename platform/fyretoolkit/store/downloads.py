"""The secret that links to results are signed with: made by whichever process needs it first, the same for all."""

from __future__ import annotations

import secrets
from typing import cast

from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, translated

_SECRET_BYTES = 32


class DownloadSecret:
    """Read once in a process. It never changes: links outlive restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secret: bytes | None = None

    async def get(self) -> bytes:
        """The secret, 32 bytes.

        Raises:
            PlatformError: `unavailable`.
        """
        if self._secret is None:
            candidate = secrets.token_hex(_SECRET_BYTES)
            async with translated():
                earlier = await self._store.redis.set(keys.DOWNLOAD_SIGNING, candidate, nx=True, get=True)
            self._secret = bytes.fromhex(cast("str | None", earlier) or candidate)
        return self._secret
