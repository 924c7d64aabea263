"""Uploaded files in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import CreationOutcome, Idempotency
from fyretoolkit.store.files import FileStore
from tests.support.api_bench import keys_without_expiry
from tests.support.uploads import new_file

Run = Callable[[Callable[[Store], Any]], Any]


def test_a_file_is_read_as_it_was_written_until_it_expires(with_store: Run) -> None:
    """By its own organization alone; nothing but the lists stays for ever."""

    async def scenario(store: Store) -> None:
        files, file = FileStore(store), new_file(filename="søk.csv", ttl_s=500)
        assert (await files.create(file)).outcome is CreationOutcome.CREATED
        assert await files.get("org_a", file.id) == file
        assert await files.get("org_b", file.id) is None
        assert 490 < await store.redis.ttl(keys.file("org_a", file.id)) <= 500
        assert await keys_without_expiry(store) == []

    with_store(scenario)


def test_a_page_passes_over_what_expired(with_store: Run) -> None:
    """And the list forgets it; the cursor of a file that is gone still positions."""

    async def scenario(store: Store) -> None:
        files = FileStore(store)
        made = [new_file() for _ in range(6)]
        for file in made:
            await files.create(file)
        for file in (made[1], made[4]):
            await store.redis.delete(keys.file("org_a", file.id))
        assert await files.page("org_a", 3) == [made[5], made[3], made[2]]
        assert await files.page("org_a", 3, starting_after=made[4].id) == [made[3], made[2], made[0]]
        assert await files.page("org_b", 3) == []
        listed = await store.redis.zrange(keys.files("org_a"), 0, -1)
        assert listed == [made[position].id for position in (0, 2, 3, 5)]

    with_store(scenario)


def test_one_key_creates_one_file(with_store: Run) -> None:
    """Simultaneous creations with one idempotency key: one record; with other content it is refused."""

    async def scenario(store: Store) -> None:
        files, made = FileStore(store), [new_file() for _ in range(20)]

        def claim(answer: str, fingerprint: str = "f") -> Idempotency:
            return Idempotency("org_a", "POST /files", "k", fingerprint, answer)

        creations = await asyncio.gather(*(files.create(file, idempotency=claim(file.id)) for file in made))
        found = await files.page("org_a", 100)
        assert len(found) == 1
        assert {creation.answer for creation in creations} == {None, found[0].id}
        with pytest.raises(PlatformError, match="idempotency_key_reused"):
            await files.create(new_file(), idempotency=claim("x", "other"))
        assert await files.page("org_a", 100) == found

    with_store(scenario)


def test_a_deleted_file_is_remembered_until_its_content_is_gone(with_store: Run) -> None:
    """So that a crash in between leaves no bytes without a trace. Deleting twice is deleting once."""

    async def scenario(store: Store) -> None:
        files, kept, ended = FileStore(store), new_file(), new_file()
        for file in (kept, ended):
            await files.create(file)
        assert await files.delete("org_b", ended.id) is False
        assert await files.delete("org_a", ended.id) is True
        assert await files.delete("org_a", ended.id) is False
        assert await files.page("org_a", 10) == [kept]
        known = await files.with_content()
        assert set(known) == {("org_a", kept.id), ("org_a", ended.id)}
        assert await files.without_record(known) == [("org_a", ended.id)]
        await files.forget_content("org_a", ended.id)
        assert await files.with_content() == [("org_a", kept.id)]

    with_store(scenario)


def test_nothing_is_left_of_the_last_file(with_store: Run) -> None:
    """No empty list, no record, no set."""

    async def scenario(store: Store) -> None:
        files, file = FileStore(store), new_file()
        await files.create(file)
        await files.delete("org_a", file.id)
        await files.forget_content("org_a", file.id)
        assert await store.redis.keys("*") == []

    with_store(scenario)
