"""The secret of download links: one for all processes, made by the first that asks."""

from __future__ import annotations

import asyncio
from typing import Any

from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.downloads import DownloadSecret


def test_all_processes_have_one_secret(with_store: Any):
    """Twenty ask at once, one later: 32 random bytes, the same for all, that stay."""

    async def scenario(store: Store) -> None:
        found = await asyncio.gather(*(DownloadSecret(store).get() for _ in range(20)))
        later = await DownloadSecret(store).get()
        assert {*found, later} == {later}
        assert len(later) == 32
        assert await store.redis.ttl(keys.DOWNLOAD_SIGNING) == -1

    with_store(scenario)


def test_it_is_read_once_in_a_process(with_store: Any):
    """No look-up for each link."""

    async def scenario(store: Store) -> None:
        secret = DownloadSecret(store)
        first = await secret.get()
        await store.redis.delete(keys.DOWNLOAD_SIGNING)
        assert await secret.get() == first

    with_store(scenario)
