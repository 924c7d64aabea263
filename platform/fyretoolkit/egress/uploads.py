"""`fyre://files/<id>`: a file that an organization uploaded, taken for a job or a deployment of the same one.

Whoever fetches passes the uploads of one organization in; there is no way from here to those of another, and none to a
path: the id is checked for its shape by the URL parser and must have a record before it becomes a name on the disk.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fyretoolkit.core.files import StoredFile

_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})


class UploadRecords(Protocol):
    """Where records of uploads are kept (`store.files.FileStore`)."""

    async def get(self, org: str, file_id: str, /) -> StoredFile | None: ...


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploaded files of one organization."""

    org: str
    records: UploadRecords
    folder: Path
    """Holds the content of each under its id (`settings.files_dir`)."""

    async def find(self, file_id: str) -> StoredFile | None:
        """The organization's file of this id, if it has not expired."""
        return await self.records.get(self.org, file_id)

    def path_of(self, file: StoredFile) -> Path:
        """Where the content lies."""
        return self.folder / file.id


def link_content(source: Path, destination: Path) -> bool:
    """Gives an upload's content a second name, which outlives the first; False where the file systems cannot.

    A copy would cost the size of the file again. Sharing it is safe: an upload is never written to.

    Raises:
        FileNotFoundError: the content is gone.
    """
    destination.unlink(missing_ok=True)
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    return True
