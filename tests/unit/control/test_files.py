"""The files folder follows the records, and only it: what still has an owner is never touched."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fyretoolkit.control import files as control_files
from fyretoolkit.control.files import FileReconciler, remove_unowned
from fyretoolkit.core.ids import new_id
from fyretoolkit.settings import Settings
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from tests.support.uploads import add_upload

pytestmark = pytest.mark.anyio

DAY_S = 86_400


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Files live for 30 days."""
    return Settings.model_validate({"home": tmp_path / "home", "redis_url": redis_url})


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty store."""
    opened = Store(redis_url)
    yield opened
    await opened.close()


def aged(path: Path, age_s: float) -> Path:
    """A file that was last written to so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_has_no_owner_goes_when_it_is_old(tmp_path: Path) -> None:
    """Halfway uploads after an hour of silence, contents without a record after as long as records live."""
    known = new_id("file")
    going = [
        aged(tmp_path / f".{new_id('file')}.abc", 3700), aged(tmp_path / new_id("file"), 31 * DAY_S),
    ]  # fmt: skip
    staying = [
        aged(tmp_path / f".{new_id('file')}.abc", 3500),
        aged(tmp_path / new_id("file"), 29 * DAY_S),
        aged(tmp_path / known, 31 * DAY_S),
        aged(tmp_path / "notes.txt", 31 * DAY_S),
        aged(tmp_path / ".hidden", 31 * DAY_S),
    ]
    remove_unowned(tmp_path, {known}, 30 * DAY_S)
    assert set(tmp_path.iterdir()) == set(staying)
    assert not any(path.exists() for path in going)


async def test_expired_and_deleted_files_leave_disk_and_lists(settings: Settings, store: Store) -> None:
    """Also those whose deletion was cut short; a second look finds nothing to do."""
    files = FileStore(store)
    kept, expired, deleted = [
        await add_upload(store, settings.files_dir, b"x", filename="a.csv") for _ in range(3)
    ]
    await store.redis.delete(keys.file("org_a", expired.id))
    await files.delete("org_a", deleted.id)
    reconciler = FileReconciler(settings, files)
    assert await reconciler.tick() is False
    assert [path.name for path in settings.files_dir.iterdir()] == [kept.id]
    assert await files.with_content() == [("org_a", kept.id)]
    assert await store.redis.zrange(keys.files("org_a"), 0, -1) == [kept.id]
    assert await reconciler.tick() is False


async def test_a_tick_is_short(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is due: what is left goes in the next ones."""
    monkeypatch.setattr(control_files, "_BUDGET_S", -1.0)
    files = FileStore(store)
    for _ in range(3):
        file = await add_upload(store, settings.files_dir, b"x", filename="a.csv")
        await files.delete("org_a", file.id)
    reconciler = FileReconciler(settings, files)
    more = [await reconciler.tick() for _ in range(4)]
    assert more == [True, True, True, False]
    assert list(settings.files_dir.iterdir()) == []


async def test_there_may_be_no_folder_yet(settings: Settings, store: Store) -> None:
    assert await FileReconciler(settings, FileStore(store)).tick() is False
