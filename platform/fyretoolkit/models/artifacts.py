"""The content-addressed artifact store: one read-only folder for each digest.

Content addressing makes `put` idempotent and a digest in Redis a promise that nothing behind it changes. A folder is
written aside, flushed to disk and renamed, so that it is there whole or not at all, whatever crashes.

With an origin, which every node reaches, the folders are this node's cache of it. The two have one layout and one
check, so whoever opens an artifact need not know where it is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.models.artifact_cache import ArtifactCache
from fyretoolkit.models.package import MANIFEST, MODEL, TOKENIZER, PackageFiles, files_in

FILES = (MODEL, MANIFEST, TOKENIZER)
"""The names under which an artifact has its files, of which it need not have the last two."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored package."""

    sha256: str
    """Digest over the names and contents of all its files."""
    size_bytes: int


class Origin(Protocol):
    """Where artifacts are kept for all nodes (`objects.artifacts`). Its failures are `unavailable`."""

    def upload(self, sha256: str, folder: Path) -> None:
        """Keep the files of a folder, unless the artifact is there whole already."""
        ...

    def download(self, sha256: str, folder: Path) -> None:
        """Write an artifact's files into an empty folder. Raises `artifact_not_found`."""
        ...


class ArtifactStore:
    """Packages by digest, as folders under `root`. Safe to use from many processes at once."""

    def __init__(self, root: Path, origin: Origin | None = None, cache_bytes: int = 0) -> None:
        """`cache_bytes`: how much of an origin is kept here; without one, everything stays."""
        self.root = root
        self._origin = origin
        self._cache = ArtifactCache(root, cache_bytes)

    def put(self, files: PackageFiles, *, hold: Callable[[int], None] = lambda _: None) -> Artifact:
        """Copies the package's files into the store, unless they are there already.

        `hold` is told of all bytes before they are written, and may refuse them.

        Raises:
            PlatformError: `unavailable`, the origin has not got it; what `hold` raises.
        """
        with self._aside() as aside:
            artifact = _copy_in(files, aside, hold)
            final = self._folder(artifact.sha256)
            if not self._has(final):
                self._rename(aside, final)
        if self._origin is not None:
            self._origin.upload(artifact.sha256, final)
            self._cache.trim()
        return artifact

    def open(self, sha256: str) -> PackageFiles:
        """The files of a stored package. With an origin they are there for an hour from now.

        Raises:
            PlatformError: `artifact_not_found`, or `unavailable`: the origin did not answer.
        """
        folder = self._folder(sha256)
        if not self._has(folder):
            if self._origin is None:
                raise PlatformError(
                    "artifact_not_found", f"The artifact store holds no {sha256[:64]}. Deploy it again."
                )
            self._bring(self._origin, sha256, folder)
        return files_in(folder)

    def _bring(self, origin: Origin, sha256: str, final: Path) -> None:
        """From the origin into this node's cache, whichever process comes first; the others wait for that."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._cache.bringing(sha256):
            if self._has(final):
                return
            with self._aside() as aside:
                origin.download(sha256, aside)
                if _seal(aside).sha256 != sha256:
                    raise PlatformError(
                        "artifact_not_found",
                        f"What the artifact store keeps as {sha256} has another digest. "
                        "Remove it there, then deploy the model again.",
                    )
                self._rename(aside, final)
        self._cache.trim()

    def _has(self, folder: Path) -> bool:
        return folder.is_dir() if self._origin is None else self._cache.hold(folder)

    def _folder(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise PlatformError(
                "artifact_not_found", "An artifact is named by its sha256, 64 hexadecimal digits."
            )
        return self.root / sha256

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """A folder beside the artifacts, gone afterwards unless it was renamed."""
        self.root.mkdir(parents=True, exist_ok=True)
        aside = self.root / new_id(".incoming")
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _rename(self, aside: Path, final: Path) -> None:
        _flush_folder(aside)
        try:
            aside.rename(final)
        except OSError:
            if not final.is_dir():  # else another process stored the same content first
                raise
        _flush_folder(self.root)


def _copy_in(files: PackageFiles, folder: Path, hold: Callable[[int], None]) -> Artifact:
    sources = {MODEL: files.onnx, MANIFEST: files.manifest_path, TOKENIZER: files.tokenizer}
    present = {name: source for name, source in sources.items() if source is not None}
    return _artifact_of({name: _copy_file(source, folder / name, hold) for name, source in present.items()})


def _seal(folder: Path) -> Artifact:
    """Makes files that are there already what `_copy_in` would have made of them."""
    parts: dict[str, tuple[str, int]] = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
            parts[path.name] = digest, os.fstat(file.fileno()).st_size
    return _artifact_of(parts)


def _artifact_of(parts: Mapping[str, tuple[str, int]]) -> Artifact:
    """The artifact that consists of these files: name to (sha256, bytes)."""
    whole = hashlib.sha256()
    for name, (digest, size) in sorted(parts.items()):
        whole.update(f"{name} {size} {digest}\n".encode())
    return Artifact(whole.hexdigest(), sum(size for _, size in parts.values()))


def _copy_file(source: Path, target: Path, hold: Callable[[int], None]) -> tuple[str, int]:
    """Copies and flushes one file; its sha256 and size are of what was written."""
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            hold(len(chunk))
            writer.write(chunk)
        writer.flush()
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())
    return digest.hexdigest(), size


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
