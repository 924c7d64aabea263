"""Room on the disk: files for callers leave a reserve to the platform's own, and a full disk is an outcome, no defect.

The reserve is above all Redis's, which ends itself when it cannot write (`launch.redis_child`). What two write at once
is counted for neither: the reserve is larger than what all of them write between two looks.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fyretoolkit.core.errors import PlatformError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def require_room(folder: Path, more_bytes: int, reserve_bytes: int) -> None:
    """Refuse `more_bytes` that would leave less than the reserve on the disk of `folder`.

    Raises:
        PlatformError: `storage_full`.
    """
    if shutil.disk_usage(folder).free - more_bytes < reserve_bytes:
        raise PlatformError("storage_full")


@contextmanager
def room_translated() -> Iterator[None]:
    """Around writing: a disk that is full all the same is `storage_full`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise PlatformError("storage_full") from error
        raise
