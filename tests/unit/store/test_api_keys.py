"""API keys and organizations in Redis: one step each, and no way to lock an organization or the platform out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.control.demo import add_demo_key
from fyretoolkit.core.api_keys import DEMO_KEY_ID, ApiKey, Credential, KeyStatus, key_id_of, new_key
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import DEMO_ORG, Organization, Scope, new_organization
from fyretoolkit.store import keys
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.organizations import OrganizationStore, create_first_admin

Run = Callable[[Callable[[Store], Any]], Any]
NOW = 1_000


def key_of(org: str = "org_a", *scopes: Scope, **values: Any) -> ApiKey:
    """A record of a new key; an admin's unless scopes are named."""
    return replace(new_key(org, "ci", scopes or (Scope.ADMIN,), created=NOW)[1], **values)


async def _expiry_of(api_keys: ApiKeyStore, key: ApiKey) -> int | None:
    stored = await api_keys.get(key.org, key.id)
    assert stored is not None
    return stored.expires_at


def test_a_key_is_read_as_it_was_written(with_store: Run) -> None:
    """Every field survives; another organization does not see it; its secret is not in Redis."""

    async def scenario(store: Store) -> None:
        text, key = new_key("org_a", "søk", (Scope.READ, Scope.PREDICT), created=NOW, lifetime_s=60)
        key = replace(key, replaced_by="key_x", revoked_at=NOW)
        api_keys = ApiKeyStore(store)
        await api_keys.add(key)
        assert await api_keys.get("org_a", key.id) == key
        assert await api_keys.get("org_b", key.id) is None
        assert text.rpartition(key.id)[2] not in str(await store.read_hash(keys.api_key(key.id)))

    with_store(scenario)


def test_a_key_comes_with_the_plan_of_its_organization(with_store: Run) -> None:
    """Together with it, as it is now; the smallest one if there is no such organization."""

    async def scenario(store: Store) -> None:
        api_keys, organization = ApiKeyStore(store), new_organization("Acme", "pro", created=NOW)
        key, orphan = key_of(organization.id), key_of("org_nowhere")
        await api_keys.add(key, organization=organization)
        await api_keys.add(orphan)
        assert await api_keys.credential(key.id) == Credential(key, "pro")
        await OrganizationStore(store).update(organization.id, plan="free")
        assert await api_keys.credential(key.id) == Credential(key, "free")
        assert await api_keys.credential(orphan.id) == Credential(orphan, "free")
        assert await api_keys.credential("key_unknown") is None

    with_store(scenario)


def test_what_is_there_stays_as_it_is(with_store: Run) -> None:
    """Seeding a copy again changes neither the demo key nor the plan that its organization got since."""

    async def scenario(store: Store) -> None:
        await add_demo_key(store)
        await OrganizationStore(store).update(DEMO_ORG, plan="pro")
        before = await ApiKeyStore(store).credential(DEMO_KEY_ID)
        assert before is not None
        assert before.plan == "pro"
        await add_demo_key(store)
        assert await ApiKeyStore(store).credential(DEMO_KEY_ID) == before
        assert len(await OrganizationStore(store).page(10)) == 1

    with_store(scenario)


def test_rotation_writes_both_keys_or_none(with_store: Run) -> None:
    """The old one learns its end and its successor, which is listed; a key that ended is left alone."""

    async def scenario(store: Store) -> None:
        api_keys, old = ApiKeyStore(store), key_of()
        new = key_of(created=NOW + 1)
        await api_keys.add(old)
        await api_keys.rotate(old, new, overlap_s=60)
        assert await api_keys.get("org_a", new.id) == new
        assert await api_keys.get("org_a", old.id) == replace(old, expires_at=NOW + 61, replaced_by=new.id)
        assert await api_keys.page("org_a", 10) == [new, await api_keys.get("org_a", old.id)]
        late = key_of(created=NOW + 61)
        with pytest.raises(PlatformError, match="api_key_not_active"):
            await api_keys.rotate(old, late, overlap_s=60)
        assert await api_keys.get("org_a", late.id) is None

    with_store(scenario)


def test_rotation_never_lets_the_old_key_live_longer(with_store: Run) -> None:
    """Twenty at once with different overlaps: the shortest holds."""

    async def scenario(store: Store) -> None:
        api_keys, old = ApiKeyStore(store), key_of()
        await api_keys.add(old)
        overlaps = range(100, 2100, 100)
        await asyncio.gather(*(api_keys.rotate(old, key_of(), overlap_s=overlap) for overlap in overlaps))
        assert await _expiry_of(api_keys, old) == NOW + 100
        assert len(await api_keys.page("org_a", 100)) == 21

    with_store(scenario)


def test_a_rotation_that_is_sent_again_is_one(with_store: Run) -> None:
    """A lost answer of Redis makes the client send the script again, when the old key may have ended."""

    async def scenario(store: Store) -> None:
        api_keys, old, new = ApiKeyStore(store), key_of(), key_of()
        await api_keys.add(old)
        for _ in range(2):
            await api_keys.rotate(old, new, overlap_s=0)
        assert len(await api_keys.page("org_a", 10)) == 2

    with_store(scenario)


def test_one_admin_key_is_left_whoever_revokes(with_store: Run) -> None:
    """Ten admins revoke each other at once: nine go."""

    async def scenario(store: Store) -> None:
        api_keys, admins = ApiKeyStore(store), [key_of() for _ in range(10)]
        for admin in (*admins, key_of("org_b"), key_of("org_a", Scope.READ)):
            await api_keys.add(admin)
        answers = await asyncio.gather(
            *(api_keys.revoke(admin, now=NOW) for admin in admins), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, PlatformError)]
        assert [error.code for error in refused] == ["last_admin_key"]
        found = await api_keys.page("org_a", 100)
        assert [key.status(NOW) for key in found if Scope.ADMIN in key.scopes].count(KeyStatus.ACTIVE) == 1

    with_store(scenario)


@pytest.mark.parametrize(
    ("own", "other", "is_allowed"),
    [
        ({}, {}, True),
        ({}, {"expires_at": NOW + 60}, False),
        ({}, {"revoked_at": NOW}, False),
        ({}, {"expires_at": NOW}, False),
        ({"expires_at": NOW + 60}, {"expires_at": NOW + 60}, True),
        ({"expires_at": NOW + 60}, {"expires_at": NOW + 59}, False),
        ({"expires_at": NOW}, {"revoked_at": NOW}, True),
    ],
)
def test_an_admin_key_goes_if_another_works_as_long(
    with_store: Run, own: dict[str, int], other: dict[str, int], is_allowed: bool
) -> None:
    """Else the organization would be locked out, now or when the other one ends. One that ended goes in any case."""

    async def scenario(store: Store) -> None:
        api_keys, key = ApiKeyStore(store), key_of(**own)
        for each in (key, key_of(**other)):
            await api_keys.add(each)
        if is_allowed:
            await api_keys.revoke(key, now=NOW)
        else:
            with pytest.raises(PlatformError, match="last_admin_key"):
                await api_keys.revoke(key, now=NOW)
        stored = await api_keys.get("org_a", key.id)
        assert stored is not None
        assert stored.revoked_at == (NOW if is_allowed else None)

    with_store(scenario)


def test_the_key_of_another_organization_saves_nobody(with_store: Run) -> None:
    """Admins are those of the own organization."""

    async def scenario(store: Store) -> None:
        api_keys, key = ApiKeyStore(store), key_of()
        for each in (key, key_of("org_b"), key_of("org_a", Scope.OPERATOR)):
            await api_keys.add(each)
        with pytest.raises(PlatformError, match="last_admin_key"):
            await api_keys.revoke(key, now=NOW)

    with_store(scenario)


def test_revoking_again_changes_nothing(with_store: Run) -> None:
    """The first time holds; a key that is not there is not half made."""

    async def scenario(store: Store) -> None:
        api_keys, key = ApiKeyStore(store), key_of("org_a", Scope.READ)
        await api_keys.add(key)
        await api_keys.revoke(key, now=NOW)
        await api_keys.revoke(key, now=NOW + 5)
        assert await api_keys.get("org_a", key.id) == replace(key, revoked_at=NOW)
        await api_keys.revoke(unknown := key_of(), now=NOW)
        assert await api_keys.get("org_a", unknown.id) is None

    with_store(scenario)


def test_the_first_admin_is_one_whoever_asks(with_store: Run) -> None:
    """Twenty at once: one gets a key, which carries every scope and has no limits; nobody gets a second."""

    async def scenario(store: Store) -> None:
        made = await asyncio.gather(*(create_first_admin(store) for _ in range(20)))
        (text,) = [each for each in made if each is not None]
        found = await ApiKeyStore(store).credential(key_id_of(text) or "")
        assert found is not None
        assert (found.key.scopes, found.plan) == (tuple(Scope), "unlimited")
        assert found.key.status(time.time()) is KeyStatus.ACTIVE
        (organization,) = await OrganizationStore(store).page(10)
        assert (organization.id, organization.name) == (found.key.org, "operators")
        assert await create_first_admin(store) is None

    with_store(scenario)


def test_the_demo_key_is_no_operator_of_a_production_copy(with_store: Run) -> None:
    """A copy that was in development mode before has it in Redis, and it opens nothing any more."""

    async def scenario(store: Store) -> None:
        await add_demo_key(store)
        assert await create_first_admin(store) is not None

    with_store(scenario)


def test_a_platform_whose_operators_are_gone_gets_a_new_one(with_store: Run) -> None:
    """Revoked or expired: the next start prints a key again, instead of leaving nobody who could."""

    async def scenario(store: Store) -> None:
        api_keys = ApiKeyStore(store)
        revoked, expired = key_of("org_a", Scope.OPERATOR), key_of("org_a", Scope.OPERATOR, expires_at=NOW)
        for key in (revoked, expired):
            await api_keys.add(key)
        assert await create_first_admin(store) is None
        await api_keys.revoke(revoked, now=NOW)
        assert await create_first_admin(store) is not None

    with_store(scenario)


def test_organizations_are_listed_newest_first(with_store: Run) -> None:
    """By creation, whatever their ids; a change needs one that is there."""

    async def scenario(store: Store) -> None:
        organizations, api_keys = OrganizationStore(store), ApiKeyStore(store)
        made = [new_organization(f"o{number}", "free", created=NOW) for number in range(5)]
        made[2] = replace(made[2], id="org_zzz")
        for organization in made:
            await api_keys.add(key_of(organization.id), organization=organization)
        first = await organizations.page(3)
        rest = await organizations.page(10, below=first[-1].order)
        assert first + rest == list(reversed(made))
        assert await organizations.update("org_zzz", name="new") is True
        assert await organizations.get("org_zzz") == replace(made[2], name="new")
        assert await organizations.update("org_unknown", name="new") is False
        assert await organizations.get("org_unknown") is None

    with_store(scenario)


def test_an_organization_record_survives_unknown_fields(with_store: Run) -> None:
    """Of a newer version that ran on this Redis before."""

    async def scenario(store: Store) -> None:
        organization = Organization("org_a", "a", "free", NOW, order="org_a")
        await ApiKeyStore(store).add(key_of(), organization=organization)
        await store.redis.hset(keys.organization("org_a"), "colour", "red")
        assert await OrganizationStore(store).get("org_a") == organization

    with_store(scenario)
