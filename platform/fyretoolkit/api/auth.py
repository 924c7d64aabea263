"""Who is calling: from the Authorization header to a principal.

One answer for a missing, malformed, unknown and revoked key, after the same work, so that nobody learns which it was.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import secrets
import time
from collections.abc import Callable, Set
from typing import Protocol

from fyretoolkit.api.requests import Headers, header_values
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import ApiKey, Principal, Scope
from fyretoolkit.store.api_keys import key_digest

CACHE_S = 5.0
"""A revoked key works no longer than this."""
DEMO_KEY_ID = "demo"
_MAX_CACHED = 10_000
_SECRET_BYTES = 24

_KEY = re.compile(r"sk_live_((?:key_)?[0-9A-Za-z]{1,64})_[0-9A-Za-z_-]{1,128}")
_CREDENTIALS = re.compile(rb"(basic|bearer) +([A-Za-z0-9+/=._~-]{1,1024})", re.IGNORECASE)
_NO_DIGEST = key_digest("")


def key_id_of(key: str) -> str | None:
    """The id under which a key is stored, or None if the text is not shaped like one of our keys."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def new_key(org: str, name: str, scopes: Set[Scope], *, created: int) -> tuple[str, ApiKey]:
    """A new key, to be shown once, and the record to store."""
    key_id = new_id("key")
    key = f"sk_live_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return key, ApiKey(key_id, org, key_digest(key), tuple(sorted(scopes)), name, created)


class KeySource(Protocol):
    """Where keys are stored (`store.api_keys.ApiKeyStore`)."""

    async def get(self, key_id: str) -> ApiKey | None: ...


class Keyring:
    """Stored keys, remembered for at most `CACHE_S`. Belongs to one event loop.

    Keys that are not found are not remembered: a new key works at once. Simultaneous look-ups of one key are one.
    """

    def __init__(
        self, keys: KeySource, *, refused: Set[str] = frozenset(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`refused`: ids that are never found (the demo key's, in production mode)."""
        self._keys = keys
        self._refused = refused
        self._clock = clock
        self._cached: dict[str, tuple[float, ApiKey]] = {}
        self._pending: dict[str, asyncio.Task[ApiKey | None]] = {}

    async def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, revoked or not.

        Raises:
            PlatformError: `unavailable`, it is not remembered and the store does not answer.
        """
        if key_id in self._refused:
            return None
        expires, key = self._cached.get(key_id, (0.0, None))
        if key is not None and self._clock() < expires:
            return key
        if key_id not in self._pending:
            task = asyncio.create_task(self._load(key_id))
            self._pending[key_id] = task
            task.add_done_callback(lambda _: self._pending.pop(key_id, None))
        return await asyncio.shield(self._pending[key_id])

    async def _load(self, key_id: str) -> ApiKey | None:
        asked_at = self._clock()
        key = await self._keys.get(key_id)
        self._cached.pop(key_id, None)
        if key is not None:
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key_id] = (asked_at + CACHE_S, key)
        return key


async def authenticate(headers: Headers, keyring: Keyring) -> Principal:
    """The principal of a request.

    Raises:
        PlatformError: `invalid_api_key`; `unavailable`.
    """
    given = header_values(headers, b"authorization")
    text = _presented_key(given[0]) if len(given) == 1 else None
    key_id = key_id_of(text) if text else None
    stored = await keyring.get(key_id) if key_id else None
    is_same = hmac.compare_digest(key_digest(text or ""), stored.digest if stored else _NO_DIGEST)
    if stored is None or not is_same or stored.is_revoked:
        raise PlatformError("invalid_api_key")
    return Principal(stored.org, stored.id, frozenset(stored.scopes), "development")


def require(principal: Principal, scope: Scope) -> None:
    """Refuses a principal without the scope.

    Raises:
        PlatformError: `insufficient_scope`.
    """
    if scope not in principal.scopes:
        raise PlatformError(
            "insufficient_scope", f"This call needs the scope {scope}. Use a key that carries it."
        )


def _presented_key(header: bytes) -> str | None:
    """The key in an Authorization header: a Bearer token, or the username of Basic with an empty password."""
    match = _CREDENTIALS.fullmatch(header)
    if match is None:
        return None
    scheme, token = match[1].lower(), match[2]
    if scheme == b"bearer":
        return token.decode("ascii")
    try:
        decoded = base64.b64decode(token, validate=True)
        username, colon, password = decoded.decode("ascii").partition(":")
    except ValueError:
        return None
    is_canonical = base64.b64encode(decoded) == token
    return username if is_canonical and colon and not password else None
