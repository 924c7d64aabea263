"""Uploaded files as the API leaves them: content under its id, then the record."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from fyretoolkit.core.files import StoredFile
from fyretoolkit.core.ids import new_id
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore


def new_file(
    content: bytes = b"x", *, filename: str = "rows.csv", org: str = "org_a", ttl_s: int = 1000
) -> StoredFile:
    """The record of a file."""
    now = int(time.time())
    digest = hashlib.sha256(content).hexdigest()
    return StoredFile(new_id("file"), org, filename, len(content), digest, now, now + ttl_s)


async def add_upload(
    store: Store, folder: Path, content: bytes, *, filename: str, org: str = "org_a"
) -> StoredFile:
    """A file whose content lies in `folder`."""
    file = new_file(content, filename=filename, org=org)
    _write(folder, file.id, content)
    await FileStore(store).create(file)
    return file


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
