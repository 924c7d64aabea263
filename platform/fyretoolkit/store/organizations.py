"""Organizations in Redis, and the first of a new platform."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import cast

from fyretoolkit.core.api_keys import KeyStatus, new_key
from fyretoolkit.core.organizations import Organization, Scope, new_organization
from fyretoolkit.store import keys
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store, change_message, script_argument, translated
from fyretoolkit.store.records import encode_fields, from_hash

KIND = "organization"
"""How a change of an organization is named on the changes channel."""


class OrganizationStore:
    """The repository of organizations. They are created with their first key (`ApiKeyStore.add`), and never removed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, org: str) -> Organization | None:
        """The organization of this id."""
        stored = await self._store.read_hash(keys.organization(org))
        return from_hash(Organization, stored) if stored else None

    async def page(self, limit: int, *, below: str | None = None) -> list[Organization]:
        """Newest first, at most `limit`, all of an order less than `below`."""
        members = await self._store.read_page(keys.ORGANIZATIONS, limit, below=below)
        stored = await self._store.read_hashes(
            [keys.organization(member.partition(" ")[2]) for member in members]
        )
        return [from_hash(Organization, fields) for fields in stored if fields]

    async def update(self, org: str, *, name: str | None = None, plan: str | None = None) -> bool:
        """Change what is given; False if there is no such organization."""
        fields = encode_fields(Organization, {"name": name, "plan": plan})
        answer = await self._store.run(
            "update_organization",
            [keys.organization(org)],
            [script_argument(fields), keys.CHANGES_CHANNEL, change_message(KIND, org, org)],
        )
        return bool(answer)


async def create_first_admin(store: Store, name: str = "operators") -> str | None:
    """The key of a new organization without limits, carrying every scope; None if an operator key works already.

    The key is nowhere else: whoever calls this has to show it. Of two simultaneous calls one gets a key.
    """
    now = int(time.time())
    organization = new_organization(name, "unlimited", created=now)
    key, record = new_key(organization.id, "first admin key", Scope, created=now)
    added = await ApiKeyStore(store).add(record, organization=organization, is_first=True)
    return key if added else None


async def create_operator_key(store: Store, name: str = "operators") -> str:
    """One more key with every scope, for the organization of an operator key that works; for a new one if none does.

    As with `create_first_admin`, whoever calls this has to show it.
    """
    now = int(time.time())
    repository = ApiKeyStore(store)
    async with translated():
        key_ids = await cast(Awaitable[set[str]], store.redis.smembers(keys.OPERATOR_KEYS))
    found = [await repository.credential(key_id) for key_id in key_ids]
    owners = sorted(each.key.org for each in found if each and each.key.status(now) is KeyStatus.ACTIVE)
    organization = None if owners else new_organization(name, "unlimited", created=now)
    key, record = new_key(organization.id if organization else owners[0], "operator key", Scope, created=now)
    await repository.add(record, organization=organization)
    return key
