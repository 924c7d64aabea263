"""`file://` URLs: a file or folder beneath a configured root, taken without being led out of it.

The path is resolved first, so links inside the roots work; then the real path is opened one component at a time,
refusing links, so a link put in place between the check and the open leads nowhere. `openat2(RESOLVE_BENEATH)` does
this in one call, but Python has no door to it, and it would refuse harmless links inside a root.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.urls import ParsedUrl, Policy, check_file_path, check_url, refusal

_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)  # NONBLOCK: a FIFO must not hang the open


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file in place, with what tells later whether it is still the same: compare it with a fresh `open_local`."""

    path: Path
    """The real path: no component is a link."""
    size_bytes: int
    mtime_ns: int
    inode: int


def open_local(url: str, policy: Policy, *, not_found_code: str = "input_not_found") -> LocalSource:
    """The file that a `file://` URL names, pinned; it was opened once, so it is readable, and closed again.

    Raises:
        PlatformError: `url_not_allowed` (not a file URL, outside the roots, no regular file) or `not_found_code`.
    """
    parsed = check_url(url, policy)
    if parsed.scheme != "file":
        raise refusal("it is not a file:// URL", policy)
    file, source = open_file(parsed, policy, not_found_code)
    file.close()
    return source


def open_file(url: ParsedUrl, policy: Policy, not_found_code: str) -> tuple[BinaryIO, LocalSource]:
    """The file of a URL that passed `check_url`, open for reading, and its pin. Raises as `open_local` does."""
    real = _real_path(url.path, policy)
    try:
        descriptor = _open_without_links(real)
    except OSError as error:
        raise _translated(error, url, policy, not_found_code) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise refusal("it does not name a regular file", policy)
    source = LocalSource(real, status.st_size, status.st_mtime_ns, status.st_ino)
    return os.fdopen(descriptor, "rb"), source


def local_folder(url: ParsedUrl, policy: Policy) -> Path | None:
    """The real path of the folder that a `file://` URL names; None for a file, for nothing, for another scheme.

    Raises:
        PlatformError: `url_not_allowed`, the URL, or a link that lies in the folder, leads out of the roots.
    """
    if url.scheme != "file":
        return None
    real = _real_path(url.path, policy)
    if not real.is_dir():
        return None
    for entry in real.iterdir():
        if entry.is_symlink():
            _real_path(str(entry), policy)
    return real


def _real_path(path: str, policy: Policy) -> Path:
    """`path` with its links resolved, if it is then beneath a root and in no hidden one, both resolved too."""
    real = Path(os.path.realpath(path))
    resolved = replace(policy, file_roots=_real(policy.file_roots), hidden_roots=_real(policy.hidden_roots))
    try:
        check_file_path(str(real), resolved)
    except PlatformError:  # its message names real roots, which are not the caller's to know
        raise refusal("it leads to a folder that the platform may not read", policy) from None
    return real


def _real(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(root)) for root in roots)


def _open_without_links(path: Path) -> int:
    """A descriptor of `path`, whose every component is opened relative to the one before and must not be a link."""
    folder = os.open(path.anchor, _FOLDER_FLAGS)
    try:
        for name in path.parts[1:-1]:
            child = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = child
        return os.open(path.name or path.anchor, _FILE_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def _translated(error: OSError, url: ParsedUrl, policy: Policy, not_found_code: str) -> PlatformError:
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
        return refusal("it does not name a regular file", policy)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PlatformError(
            not_found_code, f"{url.shown} cannot be read: give the platform's user access to it."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return PlatformError(not_found_code, f"There is no file at {url.shown}. Check the path.")
    raise error
