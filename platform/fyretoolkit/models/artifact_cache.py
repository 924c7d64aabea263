"""Which artifacts of object storage a node keeps, and which of its processes brings one: shared by all of them.

An artifact that was opened within the last hour is kept whatever it costs, since whoever opened it may be reading; of
the others the least recently opened go first, until what is left fits. The folder's own time says when it was opened,
and one lock orders looking at it and taking the folder away: a table of readers would have to survive their deaths.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fyretoolkit.core.ids import new_id

IN_USE_S = 3600.0


class ArtifactCache:
    """The folders of artifacts under `root`. Safe to use from many processes at once."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._lock = root.with_name(f"{root.name}.lock")

    def hold(self, folder: Path) -> bool:
        """Whether an artifact is there; from now on it stays for an hour."""
        with _locked(self._lock):
            try:
                os.utime(folder)
            except FileNotFoundError:
                return False
        return True

    @contextmanager
    def bringing(self, sha256: str) -> Iterator[None]:
        """One process at a time brings an artifact; look again before beginning. Blocks while another does."""
        path = self._root / f".lock-{sha256}"
        with _locked(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # who waits for it holds the file, and looks again

    def trim(self) -> None:
        """Remove what does not fit and nobody is using."""
        found = sorted(_artifacts(self._root))
        left = sum(size for _, size, _ in found)
        for opened_at, size, folder in found:
            if left <= self._max_bytes or opened_at > time.time() - IN_USE_S:
                break
            if self._take_away(folder):
                left -= size

    def _take_away(self, folder: Path) -> bool:
        aside = self._root / new_id(".evicted")
        with _locked(self._lock):
            try:
                if folder.stat().st_mtime > time.time() - IN_USE_S:
                    return False
                folder.rename(aside)
            except FileNotFoundError:
                return True
        shutil.rmtree(aside, ignore_errors=True)
        return True


def _artifacts(root: Path) -> Iterator[tuple[float, int, Path]]:
    """(when it was last opened, its bytes, its folder) of each."""
    for folder in root.iterdir():
        if folder.name.startswith("."):
            continue
        try:
            size = sum(path.stat().st_size for path in folder.iterdir())
            yield folder.stat().st_mtime, size, folder
        except FileNotFoundError:  # another process took it away
            continue


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
