"""Opening a model package: a folder, a .tar.gz, a .zip, or a bare .onnx, told apart by content.

An archive comes from a caller, so only what a package consists of is written out, under names of our own: a member's
path never reaches the file system, and links, devices and paths that climb are refused as a whole ("zip slip").
Sizes are counted while unpacking, since headers may lie ("zip bomb"), and what the archive modules read for themselves
before there is a member (directories, long names, sparse maps) is bounded too: 871 bytes of bzip2 took 2 GB, a sparse
map minutes. `tarfile`'s data filter and `extractall` were rejected: they bound paths, but neither bytes nor members.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn, Self

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import Manifest, read_manifest

MODEL, MANIFEST, TOKENIZER = "model.onnx", "model.yaml", "tokenizer.json"
MAX_MEMBERS = 1000
_CHUNK_BYTES = 1 << 20
_MAX_PART_BYTES = 255
_MAX_HEADER_BYTES = 64 << 10
"""Of a long name or extended header in a tar, each of which is read at once."""
_MAX_READ_BYTES = 4 << 20
"""Of a zip at once: its directory is, and `MAX_MEMBERS` of the longest names fit."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, a chunk is unpacked whole, whatever comes out of it."""
_ARCHIVE_NAMES = (".zip", ".tar.gz", ".tgz", ".tar")
_BROKEN_ARCHIVE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RuntimeError,
)  # fmt: skip
"""What the archive modules raise at broken, encrypted (RuntimeError) and oddly compressed (NotImplemented) ones."""


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """The files of an open package."""

    onnx: Path
    manifest: Manifest | None = None
    tokenizer: Path | None = None
    manifest_path: Path | None = None
    """The model.yaml that `manifest` was read from."""


def open_package(
    path: Path, workdir: Path, max_bytes: int, *, hold: Callable[[int], None] = lambda _: None
) -> PackageFiles:
    """The package at `path`; an archive is unpacked into `workdir`, an existing folder.

    A folder's and a bare model's files are used where they lie. Whether the model file is ONNX is not looked at here.
    `hold` is told of all bytes before they are written, and may refuse them.

    Raises:
        PlatformError: `artifact_not_found`, `artifact_too_large` (over `max_bytes` unpacked), `invalid_package` or
            `invalid_manifest`; what `hold` raises.
    """
    if path.is_dir():
        files = _pick({entry.name: entry for entry in path.iterdir()})
    elif path.is_file():
        kind = _archive_kind(path)
        if kind is None:
            files = _bare_model(path)
        else:
            try:
                files = _pick(_unpack(path, kind, workdir, max_bytes, hold))
            except _BROKEN_ARCHIVE as error:
                _refuse(f"The archive is damaged, encrypted or of an unknown kind: {_words(error)}.", error)
    else:
        raise PlatformError("artifact_not_found", "There is no model file or folder at this place.")
    _check_size(files, max_bytes)
    return files


def files_in(folder: Path) -> PackageFiles:
    """The files of a folder that is known to hold a package.

    Raises:
        PlatformError: `invalid_package` or `invalid_manifest`.
    """
    return _pick({entry.name: entry for entry in folder.iterdir()})


def _refuse(message: str, cause: Exception | None = None) -> NoReturn:
    raise PlatformError("invalid_package", message) from cause


def _archive_kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    return "tar" if head[257:262] == b"ustar" else None


def _bare_model(path: Path) -> PackageFiles:
    if path.name.lower().endswith(_ARCHIVE_NAMES):
        _refuse(
            f"The file is named {path.name[-60:]!r}, but its content is no archive. Pack and upload it again."
        )
    return PackageFiles(path)


def _pick(entries: dict[str, Path]) -> PackageFiles:
    """The package among the entries of a folder."""
    models = sorted(name for name in entries if name.lower().endswith(".onnx"))
    name = MODEL if MODEL in models else models[0] if len(models) == 1 else None
    if name is None:
        found = f"it holds {len(models)} .onnx files" if models else "it holds no .onnx file"
        _refuse(f"A package has one model.onnx, but {found}.")
    manifest, tokenizer = entries.get(MANIFEST), entries.get(TOKENIZER)
    for entry in (entries[name], manifest, tokenizer):
        if entry is not None and not stat.S_ISREG(entry.lstat().st_mode):
            _refuse(f"{entry.name} is a link or not a file. Put the file itself into the package.")
    return PackageFiles(
        onnx=entries[name],
        manifest=None if manifest is None else read_manifest(manifest),
        tokenizer=tokenizer,
        manifest_path=manifest,
    )


def _check_size(files: PackageFiles, max_bytes: int) -> None:
    paths = (files.onnx, files.manifest_path, files.tokenizer)
    if sum(path.stat().st_size for path in paths if path is not None) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> PlatformError:
    return PlatformError(
        "artifact_too_large",
        f"The package is larger than {max_bytes} bytes unpacked. Reduce the model's size.",
    )


def _unpack(
    path: Path, kind: str, workdir: Path, max_bytes: int, hold: Callable[[int], None]
) -> dict[str, Path]:
    """Writes the package's own files out of an archive; name: where it was written."""
    written: dict[str, Path] = {}
    left = max_bytes
    folders: set[str] = set()
    members = _zip_members(path) if kind == "zip" else _tar_members(path, kind, max_bytes)
    for name, source in members:
        parts = _safe_parts(name)
        if not _belongs(parts):
            continue
        folders.add("/".join(parts[:-1]))
        if parts[-1] in written or len(folders) > 1:
            _refuse("The archive holds more than one model package. Pack a single folder.")
        target = workdir / parts[-1]
        left -= _copy(source, target, left, max_bytes, hold)
        written[parts[-1]] = target
    return written


def _belongs(parts: tuple[str, ...]) -> bool:
    """Whether a member is a file of the package: at the top, or in the one folder that was packed."""
    is_ours = parts[-1] in (MANIFEST, TOKENIZER) or parts[-1].lower().endswith(".onnx")
    return is_ours and len(parts) <= 2 and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _safe_parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in PurePosixPath(name).parts if part != ".")
    climbs = ".." in parts or name.startswith("/") or "\\" in name or "\0" in name or ":" in name
    is_long = any(len(os.fsencode(part)) > _MAX_PART_BYTES for part in parts)
    if climbs or not parts or is_long or len(name) > 1000:
        _refuse(f"The archive holds a member with the forbidden name {name[:80]!r}.")
    return parts


def _copy(source: IO[bytes], target: Path, left: int, max_bytes: int, hold: Callable[[int], None]) -> int:
    size = 0
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > left:
                raise _too_large(max_bytes)
            hold(len(chunk))
            file.write(chunk)
    return size


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with _ZipSource(path) as raw, zipfile.ZipFile(raw) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            _refuse(f"The archive holds more than {MAX_MEMBERS} members.")
        for entry in entries:
            mode = entry.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(
                    f"The archive holds {entry.filename[:80]!r}, a link or device. Pack the files themselves."
                )
            _safe_parts(entry.filename)
            if entry.compress_type not in _COMPRESSIONS:
                _refuse(f"The archive holds {entry.filename[:80]!r}, compressed otherwise than by deflate.")
            if not entry.is_dir():
                with archive.open(entry) as source:
                    yield entry.filename, source


def _tar_members(path: Path, kind: str, max_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    with path.open("rb") as raw:
        plain: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if kind == "tar.gz" else raw
        counted = io.BufferedReader(_Capped(plain, max_bytes))
        with tarfile.open(fileobj=counted, mode="r|", tarinfo=_TarMember) as archive:
            for count, entry in enumerate(archive, start=1):
                if count > MAX_MEMBERS:
                    _refuse(f"The archive holds more than {MAX_MEMBERS} members.")
                if not (entry.isreg() or entry.isdir()) or entry.issparse():
                    _refuse(
                        f"The archive holds {entry.name[:80]!r}, a link or device. Pack the files themselves."
                    )
                _safe_parts(entry.name or ".")
                source = archive.extractfile(entry) if entry.isreg() else None
                if source is not None:
                    yield entry.name, source


class _ZipSource(io.FileIO):
    """A zip on the disk, whose directory is not read if it is larger than `MAX_MEMBERS` could make it."""

    def read(self, size: int | None = -1) -> Any:
        """Refuses more than `_MAX_READ_BYTES` at once; without a size, zipfile asks for the end of the file alone."""
        if size is not None and size > _MAX_READ_BYTES:
            _refuse(f"The archive holds more than {MAX_MEMBERS} members.")
        return super().read(size)


class _TarMember(tarfile.TarInfo):
    """A header of a tar, refused before tarfile reads what it announces for the next one."""

    _READ_WHOLE = (
        tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    )  # fmt: skip

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in a block."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in cls._READ_WHOLE and found.size > _MAX_HEADER_BYTES:
            _refuse("The archive holds a name or header of unreasonable length.")
        if found.type == tarfile.GNUTYPE_SPARSE:
            cls._refuse_sparse()
        return found

    def _proc_gnusparse_10(self, *_: object) -> NoReturn:
        """In tarfile this reads the map of a sparse file, which is as long as the archive likes."""
        self._refuse_sparse()

    @staticmethod
    def _refuse_sparse() -> NoReturn:
        _refuse("The archive holds a sparse file. Pack the files themselves, without --sparse.")


class _Capped(io.RawIOBase):
    """Bytes of `source`, of which more than `max_bytes` (and room for headers) are an error, read or skipped."""

    def __init__(self, source: io.BufferedIOBase, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._left = max_bytes + MAX_MEMBERS * 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._source.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _words(error: Exception) -> str:
    return str(error)[:120].rstrip(".") or type(error).__name__
