"""Who is calling: from the Authorization header to a principal.

One answer for a missing, malformed, unknown, expired and revoked key, after the same work, so that nobody learns which
it was.

A revoked key stops within 5 s. A remembered key is used for `CACHE_S` after it was asked for, and for predictions
it is renewed before that in the background, so that they never wait for Redis. While Redis is away predictions go on
with it for `GRACE_S`, which breaks nothing: Redis takes every revocation and announces it in the same step, so none is
made while it is away, and one made before was heard by who was listening all the time since the key was last
confirmed; a key for which that is not so gets no grace. What remains is a Redis that is away for this process alone,
from whose listening connection nothing more comes, while others still reach it: then `GRACE_S` is the bound.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from math import inf
from typing import Protocol

from redis.asyncio.client import PubSub

from fyretoolkit.api.requests import Headers, header_values
from fyretoolkit.core.api_keys import Credential, KeyStatus, key_digest, key_id_of
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.store import api_keys, organizations
from fyretoolkit.store.connection import RETRY_AFTER_S, Store

CACHE_S = 5.0
"""A revoked key, or the plan that an organization had before, counts no longer than this."""
RENEW_S = CACHE_S / 2
"""A key in use is asked for again when it was confirmed so long ago."""
GRACE_S = 60.0
"""How long after its last confirmation a key predicts while the store is away."""
PATIENCE_S = 2.0
"""A store that is silent for so long is away."""
PROBE_S = 0.5
"""While it is away, predictions have it asked no more often."""
POLL_S = 1.0
_MAX_CACHED = 10_000
_CANCEL_AGAIN_S = 0.1

_CREDENTIALS = re.compile(rb"(basic|bearer) +([A-Za-z0-9+/=._~-]{1,1024})", re.IGNORECASE)
_NO_DIGEST = key_digest("")
_NO_KEY = key_digest("no key has this digest")

logger = logging.getLogger(__name__)


class CredentialSource(Protocol):
    """Where keys are stored (`store.api_keys.ApiKeyStore`)."""

    async def credential(self, key_id: str) -> Credential | None: ...


@dataclass(frozen=True, slots=True)
class _Remembered:
    asked_at: float
    found: Credential


class Keyring:
    """Stored keys with the plans of their organizations, remembered for at most `CACHE_S`. Belongs to one event loop.

    Keys that are not found are not remembered: a new key works at once. Simultaneous look-ups of one key are one.
    `watch` must be running there, then `close`.
    """

    def __init__(
        self,
        keys: CredentialSource,
        *,
        refused: Set[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused`: organizations whose keys are never found, nor those of the organizations that they made.

        In production mode, the demo key's.
        """
        self._keys = keys
        self._refused = refused
        self._clock = clock
        self._cached: dict[str, _Remembered] = {}
        self._pending: dict[str, asyncio.Task[Credential | None]] = {}
        self._tasks: set[asyncio.Task[Credential | None]] = set()
        self._listening_since = inf
        self._away_at = -inf
        self._probe_at = -inf

    async def get(self, key_id: str, *, has_grace: bool = False) -> Credential | None:
        """The key of this id, whether it works or not.

        `has_grace`: while the store is away, one that was confirmed within `GRACE_S` will do.

        Raises:
            PlatformError: `unavailable`, it is not remembered and the store does not answer.
        """
        if (remembered := self.remembered(key_id, has_grace=has_grace)) is not None:
            return remembered
        try:
            return await asyncio.shield(self._look_up(key_id))
        except PlatformError:
            known = self._cached.get(key_id)
            if known is None or not (has_grace and self._lasts(known)):
                raise
            return known.found

    def remembered(self, key_id: str, *, has_grace: bool = False) -> Credential | None:
        """As `get`, without waiting: None if the store has to be asked first."""
        now = self._clock()
        known = self._cached.get(key_id)
        if known is None or not (now < known.asked_at + CACHE_S or (has_grace and self._lasts(known))):
            return None
        if now >= known.asked_at + RENEW_S and now >= self._probe_at:
            self._look_up(key_id)
        return known.found

    def forget(self, key_id: str) -> None:
        """The key changed: the next look is at the store, and one that is under way is not remembered."""
        self._cached.pop(key_id, None)
        self._pending.pop(key_id, None)

    def forget_organization(self, org: str) -> None:
        """The same for all keys of an organization."""
        for key_id in [key_id for key_id, each in self._cached.items() if each.found.key.org == org]:
            del self._cached[key_id]
        self._pending.clear()  # whose they are is not known yet

    async def watch(self, store: Store) -> None:
        """Forget what changed as it is announced, until cancelled. Announcements may be lost: `CACHE_S` holds then."""
        while True:
            try:
                async with store.subscribe() as changes:
                    self._listening_since = self._clock()
                    while True:
                        await self._take_change(changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, keys are looked up again after `CACHE_S`
                logger.warning("Changes of keys are not announced, trying again: %r", error)
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End the look-ups that are under way."""
        while self._tasks:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)  # redis-py may swallow one while it connects

    def _lasts(self, known: _Remembered) -> bool:
        """Whether the store is away, as seen lately, and every change since the key was confirmed was heard."""
        now = self._clock()
        is_away = now < self._away_at + CACHE_S
        return is_away and now < known.asked_at + GRACE_S and known.asked_at >= self._listening_since

    def _look_up(self, key_id: str) -> asyncio.Task[Credential | None]:
        if key_id not in self._pending:
            task = asyncio.create_task(self._load(key_id))
            self._pending[key_id] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._note_end(key_id, done))
        return self._pending[key_id]

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
        found = await self._ask(key_id)
        self._cached.pop(key_id, None)
        if found is not None and not self._refused.isdisjoint((found.key.org, found.created_by)):
            return None
        if found is not None and self._pending.get(key_id) is asyncio.current_task():
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key_id] = _Remembered(asked_at, found)
        return found

    async def _ask(self, key_id: str) -> Credential | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._keys.credential(key_id)
        except (PlatformError, TimeoutError) as error:
            self._away_at = self._clock()
            self._probe_at = self._away_at + PROBE_S
            raise PlatformError("unavailable", retry_after_s=RETRY_AFTER_S) from error
        self._away_at = self._probe_at = -inf
        return found

    def _note_end(self, key_id: str, done: asyncio.Task[Credential | None]) -> None:
        self._tasks.discard(done)
        if self._pending.get(key_id) is done:
            del self._pending[key_id]
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, PlatformError):
            logger.error("Key %s could not be looked up", key_id, exc_info=error)


async def authenticate(headers: Headers, keyring: Keyring, needed: Scope) -> Principal:
    """The principal of a request, whether it has the scope that is needed or not (`require`).

    Predictions, and nothing else, go on for a while with a key that cannot be confirmed.

    Raises:
        PlatformError: `invalid_api_key`; `unavailable`.
    """
    key_id, digest = _credentials(headers)
    found = await keyring.get(key_id, has_grace=needed is Scope.PREDICT) if key_id else None
    return _principal_of(found, digest)


def authenticate_at_once(headers: Headers, keyring: Keyring, needed: Scope) -> Principal | None:
    """As `authenticate`, without waiting: None if the store has to be asked first.

    Raises:
        PlatformError: `invalid_api_key`.
    """
    key_id, digest = _credentials(headers)
    found = keyring.remembered(key_id, has_grace=needed is Scope.PREDICT) if key_id else None
    return None if found is None else _principal_of(found, digest)


def _principal_of(found: Credential | None, digest: str) -> Principal:
    is_same = hmac.compare_digest(digest, found.key.digest if found else _NO_KEY)
    if found is None or not is_same or found.key.status(time.time()) is not KeyStatus.ACTIVE:
        raise PlatformError("invalid_api_key")
    return found.principal


def _credentials(headers: Headers) -> tuple[str | None, str]:
    given = header_values(headers, b"authorization")
    return _presented(given[0]) if len(given) == 1 else (None, _NO_DIGEST)


def require(principal: Principal, scope: Scope) -> None:
    """Refuses a principal without the scope.

    Raises:
        PlatformError: `insufficient_scope`.
    """
    if scope not in principal.scopes:
        raise PlatformError(
            "insufficient_scope", f"This call needs the scope {scope}. Use a key that carries it."
        )


_read_headers: dict[bytes, tuple[str | None, str]] = {}
"""What was read of the headers seen last, by their SHA-256: the headers themselves hold secrets."""


def _presented(header: bytes) -> tuple[str | None, str]:
    """The id and the digest of the key in an Authorization header; the id is None if it holds none."""
    name = hashlib.sha256(header).digest()
    read = _read_headers.get(name)
    if read is None:
        if len(_read_headers) >= _MAX_CACHED:
            _read_headers.clear()
        text = _presented_key(header)
        read = _read_headers[name] = (key_id_of(text) if text else None, key_digest(text or ""))
    return read


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
