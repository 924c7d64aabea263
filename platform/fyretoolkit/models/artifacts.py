"""The content-addressed artifact store: one read-only folder for each digest.

Content addressing makes `put` idempotent and a digest in Redis a promise that nothing behind it changes. A folder is
written aside, flushed to disk and renamed, so that it is there whole or not at all, whatever crashes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.models.package import MANIFEST, MODEL, TOKENIZER, PackageFiles, files_in

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored package."""

    sha256: str
    """Digest over the names and contents of all its files."""
    size_bytes: int


class ArtifactStore:
    """Packages by digest, as folders under `root`. Safe to use from many processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, files: PackageFiles) -> Artifact:
        """Copies the package's files into the store, unless they are there already."""
        self.root.mkdir(parents=True, exist_ok=True)
        aside = self.root / new_id(".incoming")
        aside.mkdir()
        try:
            artifact = _copy_in(files, aside)
            final = self._folder(artifact.sha256)
            if not final.exists():
                _flush_folder(aside)
                self._rename(aside, final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return artifact

    def open(self, sha256: str) -> PackageFiles:
        """The files of a stored package.

        Raises:
            PlatformError: `artifact_not_found`.
        """
        folder = self._folder(sha256)
        if not folder.is_dir():
            raise PlatformError(
                "artifact_not_found", f"The artifact store holds no {sha256[:64]}. Deploy it again."
            )
        return files_in(folder)

    def _folder(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise PlatformError(
                "artifact_not_found", "An artifact is named by its sha256, 64 hexadecimal digits."
            )
        return self.root / sha256

    def _rename(self, aside: Path, final: Path) -> None:
        try:
            aside.rename(final)
        except OSError:
            if not final.is_dir():  # else another process stored the same content first
                raise
        _flush_folder(self.root)


def _copy_in(files: PackageFiles, folder: Path) -> Artifact:
    sources = {MODEL: files.onnx, MANIFEST: files.manifest_path, TOKENIZER: files.tokenizer}
    whole = hashlib.sha256()
    size_bytes = 0
    for name, source in sorted(sources.items()):
        if source is None:
            continue
        digest, size = _copy_file(source, folder / name)
        whole.update(f"{name} {size} {digest}\n".encode())
        size_bytes += size
    return Artifact(whole.hexdigest(), size_bytes)


def _copy_file(source: Path, target: Path) -> tuple[str, int]:
    """Copies and flushes one file; its sha256 and size are of what was written."""
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
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
