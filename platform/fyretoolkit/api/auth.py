"""Who is calling: from the Authorization header to a principal.

One answer for a missing, malformed, unknown, expired and revoked key, after the same work, so that nobody learns which
it was.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Set
from typing import Protocol

from redis.asyncio.client import PubSub

from fyretoolkit.api.requests import Headers, header_values
from fyretoolkit.core.api_keys import Credential, KeyStatus, key_digest, key_id_of
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.store import api_keys, organizations
from fyretoolkit.store.connection import Store

CACHE_S = 5.0
"""A revoked key, or the plan that an organization had before, counts no longer than this."""
POLL_S = 1.0
_MAX_CACHED = 10_000

_CREDENTIALS = re.compile(rb"(basic|bearer) +([A-Za-z0-9+/=._~-]{1,1024})", re.IGNORECASE)
_NO_DIGEST = key_digest("")

logger = logging.getLogger(__name__)


class CredentialSource(Protocol):
    """Where keys are stored (`store.api_keys.ApiKeyStore`)."""

    async def credential(self, key_id: str) -> Credential | None: ...


class Keyring:
    """Stored keys with the plans of their organizations, remembered for at most `CACHE_S`. Belongs to one event loop.

    Keys that are not found are not remembered: a new key works at once. Simultaneous look-ups of one key are one.
    """

    def __init__(
        self,
        keys: CredentialSource,
        *,
        refused: Set[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused`: organizations whose keys are never found (the demo key's, in production mode)."""
        self._keys = keys
        self._refused = refused
        self._clock = clock
        self._cached: dict[str, tuple[float, Credential]] = {}
        self._pending: dict[str, asyncio.Task[Credential | None]] = {}

    async def get(self, key_id: str) -> Credential | None:
        """The key of this id, whether it works or not.

        Raises:
            PlatformError: `unavailable`, it is not remembered and the store does not answer.
        """
        expires, found = self._cached.get(key_id, (0.0, None))
        if found is not None and self._clock() < expires:
            return found
        if key_id not in self._pending:
            task = asyncio.create_task(self._load(key_id))
            self._pending[key_id] = task
            task.add_done_callback(lambda done: self._forget_pending(key_id, done))
        return await asyncio.shield(self._pending[key_id])

    async def confirm(self, principal: Principal) -> None:
        """Refuses a caller whose key does not work at this moment, whatever is remembered.

        Asked before a key is made: what a stolen key makes would outlive its revocation.

        Raises:
            PlatformError: `invalid_api_key`, `unavailable`.
        """
        self.forget(principal.key_id)
        if not _is_active(await self.get(principal.key_id)):
            raise PlatformError("invalid_api_key")

    def forget(self, key_id: str) -> None:
        """The key changed: the next look is at the store, and one that is under way is not remembered."""
        self._cached.pop(key_id, None)
        self._pending.pop(key_id, None)

    def forget_organization(self, org: str) -> None:
        """The same for all keys of an organization."""
        for key_id in [key_id for key_id, (_, found) in self._cached.items() if found.key.org == org]:
            del self._cached[key_id]
        self._pending.clear()  # whose they are is not known yet

    async def watch(self, store: Store) -> None:
        """Forget what changed as it is announced, until cancelled. Announcements may be lost: `CACHE_S` holds then."""
        while True:
            try:
                async with store.subscribe() as changes:
                    while True:
                        await self._take_change(changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, keys are looked up again after `CACHE_S`
                logger.warning("Changes of keys are not announced, trying again: %r", error)
            await asyncio.sleep(POLL_S)

    async def _take_change(self, changes: PubSub) -> None:
        message = await changes.get_message(timeout=POLL_S)
        if message is None:
            return
        change = json.loads(message["data"])
        if change["kind"] == api_keys.KIND:
            self.forget(change["id"])
        elif change["kind"] == organizations.KIND:
            self.forget_organization(change["id"])

    async def _load(self, key_id: str) -> Credential | None:
        asked_at = self._clock()
        found = await self._keys.credential(key_id)
        self._cached.pop(key_id, None)
        if found is not None and found.key.org in self._refused:
            return None
        if found is not None and self._pending.get(key_id) is asyncio.current_task():
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key_id] = (asked_at + CACHE_S, found)
        return found

    def _forget_pending(self, key_id: str, done: asyncio.Task[Credential | None]) -> None:
        if self._pending.get(key_id) is done:
            del self._pending[key_id]


async def authenticate(headers: Headers, keyring: Keyring) -> Principal:
    """The principal of a request.

    Raises:
        PlatformError: `invalid_api_key`; `unavailable`.
    """
    given = header_values(headers, b"authorization")
    text = _presented_key(given[0]) if len(given) == 1 else None
    key_id = key_id_of(text) if text else None
    found = await keyring.get(key_id) if key_id else None
    is_same = hmac.compare_digest(key_digest(text or ""), found.key.digest if found else _NO_DIGEST)
    if found is None or not is_same or not _is_active(found):
        raise PlatformError("invalid_api_key")
    return Principal(found.key.org, found.key.id, frozenset(found.key.scopes), found.plan)


def _is_active(found: Credential | None) -> bool:
    return found is not None and found.key.status(time.time()) is KeyStatus.ACTIVE


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
