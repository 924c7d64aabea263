"""A file on its way in: hashed while it is written, on disk before it is seen, there whole or not at all.

It is written beside its destination under a hidden name, so that the last step is a rename within one file system.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from fyretoolkit.egress.room import require_room, room_translated

P = ParamSpec("P")
T = TypeVar("T")


class Spool:
    """Receives bytes for `destination`, whose folder must exist; end with `publish` or `discard`. Not thread-safe."""

    def __init__(self, destination: Path, *, reserve_bytes: int | None = None) -> None:
        """`reserve_bytes` stay free on the disk, and one that is full is `storage_full`; None: an OSError."""
        self._reserve_bytes = reserve_bytes
        descriptor, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name[:64]}.")
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._path = Path(name)
        self._destination = destination
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def ensure_room(self, more_bytes: int) -> None:
        """Raises `storage_full` if so much more would not leave the reserve."""
        if self._reserve_bytes is not None:
            require_room(self._destination.parent, more_bytes, self._reserve_bytes)

    def write(self, chunk: bytes | bytearray) -> None:
        """Appends `chunk`."""
        self.ensure_room(len(chunk))
        with self._told():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def restart(self) -> None:
        """Forgets what was written so far."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def sync(self) -> None:
        """Brings what was written so far to the disk, so that `publish` has little left to do."""
        with self._told():
            self._file.flush()
            os.fdatasync(self._file.fileno())

    def publish(self) -> None:
        """Makes the file durable, then visible at the destination, replacing what was there."""
        with self._told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(self._destination)
            sync_folder(self._destination.parent)

    def discard(self) -> None:
        """Removes what was received; does nothing after `publish`."""
        with suppress(OSError):  # what it could not write is not wanted; the file is closed all the same
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _told(self) -> AbstractContextManager[None]:
        return nullcontext() if self._reserve_bytes is None else room_translated()


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in a worker thread; a cancelled caller still waits for it, so that nobody closes a file in use."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        work.exception()  # looked at, so that asyncio does not report it as lost: the cancellation goes first
        raise
