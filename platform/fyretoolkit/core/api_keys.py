"""API keys: how one is written, what is kept of it, and until when it works.

A key is `sk_live_<id>_<secret>`: the id finds the record, so that nothing is searched by secret, and the prefix is what
secret scanners look for. Kept are the SHA-256 of the whole and its last characters, to tell two keys apart in a list.
A slow hash (bcrypt, argon2) would add nothing: the part of the secret that is not shown has 232 random bits, and the
check is on the path of every request.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import Principal, Scope

PREFIX = "key"
DEMO_KEY = "sk_live_demo_12345"
"""Of development mode: the documentation uses it."""
DEMO_KEY_ID = "demo"
"""The id within the demo key; refused in production mode."""
DEFAULT_SCOPES = (Scope.READ, Scope.PREDICT, Scope.WRITE)
"""What a new key carries unless its creator names other scopes."""
_SECRET_BYTES = 32
_SHOWN_CHARS = 4
_KEY = re.compile(r"sk_live_((?:key_)?[0-9A-Za-z]{1,64})_[0-9A-Za-z_-]{1,128}")


class KeyStatus(StrEnum):
    """A key works, or it does not, and then never again."""

    ACTIVE = "active"
    """It opens what its scopes allow."""
    REVOKED = "revoked"
    """Somebody revoked it, or its time has come."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. The secret is not in it."""

    id: str
    org: str
    digest: str
    """SHA-256 of the whole key."""
    scopes: tuple[Scope, ...]
    name: str
    created: int
    hint: str = ""
    """The last characters of the key."""
    lifetime_s: int | None = None
    """How long it was made to work, and how long its replacement will; None: until it is revoked."""
    expires_at: int | None = None
    revoked_at: int | None = None
    replaced_by: str | None = None
    """The id of the key that rotation put in its place."""
    schema: int = 1

    def status(self, now: float) -> KeyStatus:
        """Whether it works at the Unix time `now`."""
        is_expired = self.expires_at is not None and now >= self.expires_at
        return KeyStatus.REVOKED if is_expired or self.revoked_at is not None else KeyStatus.ACTIVE

    @property
    def masked(self) -> str:
        """What may be shown of it."""
        return f"sk_live_{self.id}_****{self.hint}"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request with a key is checked against: the key, and what its organization is entitled to."""

    key: ApiKey
    plan: str
    created_by: str = ""
    """The organization that made the key's organization; empty if none did."""
    principal: Principal = field(init=False, compare=False)
    """Who calls with it."""

    def __post_init__(self) -> None:
        principal = Principal(self.key.org, self.key.id, frozenset(self.key.scopes), self.plan)
        object.__setattr__(self, "principal", principal)


def key_digest(key: str) -> str:
    """The SHA-256 by which a key is kept."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


def key_hint(key: str) -> str:
    """The last characters of a key, which are shown in lists."""
    return key[-_SHOWN_CHARS:]


def key_id_of(key: str) -> str | None:
    """The id under which a key is stored, or None if the text is not shaped like one of our keys."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def new_key(
    org: str, name: str, scopes: Iterable[Scope], *, created: int, lifetime_s: int | None = None
) -> tuple[str, ApiKey]:
    """(a new key, to be shown once; the record to store)."""
    key_id = new_id(PREFIX)
    key = f"sk_live_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return key, ApiKey(
        id=key_id,
        org=org,
        digest=key_digest(key),
        scopes=in_order(scopes),
        name=name,
        created=created,
        hint=key_hint(key),
        lifetime_s=lifetime_s,
        expires_at=None if lifetime_s is None else created + lifetime_s,
    )


def new_replacement(old: ApiKey, *, created: int) -> tuple[str, ApiKey]:
    """A new key with the name, scopes and lifetime of another."""
    return new_key(old.org, old.name, old.scopes, created=created, lifetime_s=old.lifetime_s)


def in_order(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """The distinct scopes, in the order in which `Scope` declares them."""
    given = frozenset(scopes)
    return tuple(scope for scope in Scope if scope in given)
