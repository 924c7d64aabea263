"""API keys in Redis: looked up by id, never stored in clear (`core.api_keys`).

A list shows what was revoked and when, so keys stay when they end; of many, the oldest go as others are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fyretoolkit.core.api_keys import ApiKey, Credential
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import DEMO_ORG, Organization, Scope
from fyretoolkit.core.quotas import Resource, quota_exceeded
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store, change_message, script_argument
from fyretoolkit.store.records import from_hash, to_hash

FALLBACK_PLAN = "free"
"""Of an organization without a record."""
KEPT_ENDED = 1000
"""Keys of an organization that work no more and stay known: whoever makes and ends keys all day would fill Redis."""
KIND = "api_key"
"""How a change of a key is named on the changes channel."""


class ApiKeyStore:
    """The repository of API keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(
        self,
        key: ApiKey,
        *,
        organization: Organization | None = None,
        is_first: bool = False,
        caller: str | None = None,
        limit: int | None = None,
    ) -> ApiKey | None:
        """Write a key, and its organization with it, in one step; what is there already stays as it is.

        `caller`: the id of the key that makes it, which has to work, and which the new one does not outlive (but for
        the first of an organization). `limit`: how many keys of the organization may work. `is_first`: only if no
        operator key works; None if one does, and then nothing is written. Else the key with its expiry as written.

        Raises:
            PlatformError: `invalid_api_key`, the caller's does not work any more; `quota_exceeded`.
        """
        answer = await self._store.run(
            "create_api_key",
            [
                keys.api_key(key.id),
                *_lists(key),
                keys.ORGANIZATIONS,
                keys.api_key(caller) if caller else "",
                keys.organization(organization.id) if organization else "",
            ],
            [
                script_argument(
                    {
                        **_entry(key, caller, limit),
                        "is_first": is_first,
                        "message": change_message(KIND, key.org, key.id),
                        "organization": organization and _organization_entry(organization),
                    }
                )
            ],
        )
        return None if answer[0] == "taken" else _written(key, answer, limit)

    async def get(self, org: str, key_id: str) -> ApiKey | None:
        """The key, or None if this organization has none of this id."""
        stored = await self._store.read_hash(keys.api_key(key_id))
        key = from_hash(ApiKey, stored) if stored else None
        return key if key is not None and key.org == org else None

    async def credential(self, key_id: str) -> Credential | None:
        """The key of this id, whoever's it is, with the plan of its organization as it is at the same moment."""
        answer = await self._store.run("read_credential", [keys.api_key(key_id)], [keys.organization("")])
        fields, plan, created_by = answer
        if not fields:
            return None
        stored = dict(zip(fields[::2], fields[1::2], strict=True))
        return Credential(from_hash(ApiKey, stored), plan or FALLBACK_PLAN, created_by)

    async def page(self, org: str, limit: int, *, starting_after: str | None = None) -> list[ApiKey]:
        """Newest first, at most `limit` keys, all older than `starting_after`; revoked ones too."""
        ids = await self._store.read_page(keys.org_keys(org), limit, below=starting_after)
        stored = await self._store.read_hashes([keys.api_key(key_id) for key_id in ids])
        return [from_hash(ApiKey, fields) for fields in stored if fields]

    async def rotate(
        self,
        old: ApiKey,
        new: ApiKey,
        *,
        overlap_s: int,
        caller: str | None = None,
        limit: int | None = None,
    ) -> ApiKey:
        """Write the new key and let the old one expire after the overlap, in one step; the new one as written.

        `caller` and `limit` as in `add`.

        Raises:
            PlatformError: `api_key_not_active`, the old one does not work any more; `last_admin_key`, the new one would
                end with the caller's, and no other admin key works as long as the old one; `invalid_api_key`,
                `quota_exceeded` as in `add`; nothing was written.
        """
        answer = await self._store.run(
            "rotate_api_key",
            [
                keys.api_key(old.id),
                keys.api_key(new.id),
                *_lists(new),
                keys.api_key(caller) if caller else "",
            ],
            [
                script_argument(
                    {
                        **_entry(new, caller, limit),
                        "old": old.id,
                        "expires_at": new.created + overlap_s,
                        "message": change_message(KIND, old.org, old.id),
                    }
                )
            ],
        )
        if answer[0] == "inactive":
            raise PlatformError("api_key_not_active")
        if answer[0] == "last_admin":
            raise PlatformError(
                "last_admin_key",
                "No other admin key of the organization works as long as this one, and the new one would end with "
                "yours. Call with a key that works as long; this one itself will do.",
            )
        return _written(new, answer, limit)

    async def revoke(self, key: ApiKey, *, now: int) -> None:
        """Let the key work no more; again, nothing changes.

        Raises:
            PlatformError: `last_admin_key`, no other admin key of the organization works as long.
        """
        answer = await self._store.run(
            "revoke_api_key",
            [keys.api_key(key.id), keys.org_admins(key.org), keys.OPERATOR_KEYS, keys.active_keys(key.org)],
            [key.id, now, keys.api_key(""), keys.CHANGES_CHANNEL, change_message(KIND, key.org, key.id)],
        )
        if answer == "last_admin":
            raise PlatformError("last_admin_key")


def _lists(key: ApiKey) -> list[str]:
    return [keys.org_keys(key.org), keys.org_admins(key.org), keys.OPERATOR_KEYS, keys.active_keys(key.org)]


def _written(key: ApiKey, answer: list[str], limit: int | None) -> ApiKey:
    """The key with the expiry that the script answered."""
    if answer[0] == "caller_inactive":
        raise PlatformError("invalid_api_key")
    if answer[0] == "full" and limit:
        raise quota_exceeded(Resource.API_KEYS, limit)
    return replace(key, expires_at=int(answer[1]) if answer[1] else None)


def _entry(key: ApiKey, caller: str | None, limit: int | None) -> Mapping[str, Any]:
    return {
        "id": key.id,
        "fields": to_hash(key),
        "is_admin": Scope.ADMIN in key.scopes,
        "is_operator": Scope.OPERATOR in key.scopes and key.org != DEMO_ORG,
        "now": key.created,
        "has_caller": caller is not None,
        "limit": limit,
        "kept": KEPT_ENDED,
        "key_prefix": keys.api_key(""),
        "channel": keys.CHANGES_CHANNEL,
    }


def _organization_entry(organization: Organization) -> Mapping[str, Any]:
    return {
        "fields": to_hash(organization),
        "member": f"{organization.order} {organization.id}",
        "message": change_message("organization", organization.id, organization.id),
    }
