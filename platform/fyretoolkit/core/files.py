"""Files that callers upload: the record, the URI that names one, and what a caller's file name becomes.

A file is written once and never changed, so that whatever reads it later, by its id, reads what was uploaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

PREFIX = "file"
URI_PREFIX = "fyre://files/"
UPLOAD_PATH = "/files"
MAX_NAME_BYTES = 255
"""The longest name that a file system takes; no more characters than that either."""
DEFAULT_NAME = "upload"
_MAX_SUFFIX_CHARS = 32


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file. Its content lies in the files folder under its id; times are Unix seconds."""

    id: str
    org: str
    filename: str
    """As the caller named it, made safe: its suffix says what the content is."""
    size_bytes: int
    sha256: str
    created: int
    expires_at: int
    schema: int = 1


def file_id_of(url: str) -> str | None:
    """What follows `fyre://files/`, which may be no id at all; None for a URL of another kind."""
    prefix = len(URI_PREFIX)
    return url[prefix:] if url[:prefix].lower() == URI_PREFIX else None


def clean_filename(given: str) -> str:
    """The last component of a path as any system writes it, without what does not print, at most 255 bytes of UTF-8.

    Its suffixes stay when it is shortened. `upload` if nothing is left.
    """
    printable = "".join(character for character in given if character.isprintable())
    name = printable.replace("\\", "/").rpartition("/")[2].strip()
    if name in ("", ".", ".."):
        return DEFAULT_NAME
    return name if len(name.encode()) <= MAX_NAME_BYTES else _shortened(name)


def _shortened(name: str) -> str:
    suffix = "".join(PurePosixPath(name).suffixes[-2:])[-_MAX_SUFFIX_CHARS:]
    room = MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode("utf-8", "ignore") + suffix
