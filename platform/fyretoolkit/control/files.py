"""Taking the content of expired and deleted files off the disk, and what uploads left that never ended.

The API removes what a caller deletes. Here goes what nobody else removes: files whose record expired, those of an API
process that died in between, and the hidden files of uploads that died with theirs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Set
from pathlib import Path

from fyretoolkit.core.files import PREFIX
from fyretoolkit.core.ids import is_id
from fyretoolkit.settings import Settings
from fyretoolkit.store.files import FileStore

logger = logging.getLogger(__name__)

_EVERY_S = 600.0
_UNFINISHED_AGE_S = 3600.0
"""An upload writes all the time: what was not written to for so long was left by a process that died."""
_BUDGET_S = 5.0
"""A tick must be short: a controller that does not look for long is taken for hanging."""


class FileReconciler:
    """Brings the files folder in line with the records, some seconds at a time."""

    def __init__(self, settings: Settings, files: FileStore) -> None:
        self._settings = settings
        self._files = files
        self._due_at = 0.0

    async def tick(self) -> bool:
        """Remove what is due, for some seconds at most. True if there may be more."""
        if time.monotonic() < self._due_at:
            return False
        until = time.monotonic() + _BUDGET_S
        known = await self._files.with_content()
        for org, file_id in await self._files.without_record(known):
            await asyncio.to_thread(_remove, self._settings.files_dir / file_id)
            await self._files.forget_content(org, file_id)
            if time.monotonic() > until:
                return True
        ids = {file_id for _, file_id in known}
        await asyncio.to_thread(remove_unowned, self._settings.files_dir, ids, self._settings.files.ttl_s)
        self._due_at = time.monotonic() + _EVERY_S
        return False


def remove_unowned(folder: Path, known: Set[str], ttl_s: int) -> None:
    """Remove uploads that stopped halfway, and contents that no record ever named.

    A content without a record goes only when it is as old as records live: files must outlast a platform that was
    started on the wrong Redis, or on an empty one.
    """
    now = time.time()
    for path in folder.iterdir() if folder.is_dir() else ():
        is_unfinished = path.name.startswith(f".{PREFIX}_")
        if is_unfinished or (is_id(path.name, PREFIX) and path.name not in known):
            _remove_older(path, now - (_UNFINISHED_AGE_S if is_unfinished else ttl_s))


def _remove_older(path: Path, before: float) -> None:
    try:
        if path.stat().st_mtime >= before:
            return
    except FileNotFoundError:  # published or discarded just now
        return
    logger.info("%s has no owner and goes", path.name)
    _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
