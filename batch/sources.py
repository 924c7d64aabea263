"""Staging: from `input_url` to one plain file on disk, with what pins it.

A `file://` input is read where it lies; its size, time and inode are checked again after each shard is read, so a file
that changes under a running job ends the job instead of mixing two inputs. Everything else is spooled once into the
job's folder, and gzip and zstd are unpacked on the way under two caps: bytes in all, and growth, because 194 kB of gzip
can hold 200 MB. Compression is recognised by its magic number, since neither CSV nor JSON begins with one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
from anyio import to_thread

from batch.failpoints import reach
from batch.shards import Shard
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.fetch import fetch, timeouts_from
from fyretoolkit.egress.local import open_local
from fyretoolkit.egress.spool import Spool
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.egress.urls import check_url, policy_from
from fyretoolkit.settings import Settings

_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BLOCK_BYTES = 1 << 20
_MAX_GROWTH = 200
_FREE_GROWTH_BYTES = 64 << 20
"""Growth is not looked at below this size: small logs compress better than any ratio worth setting."""


@dataclass(frozen=True, slots=True)
class Source:
    """The staged input and what tells later whether it is still the same."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    content_type: str | None = None
    name: str = ""
    """The file's name where it came from: its suffix says the format."""
    numbers: str = ""
    """The file that says which numbers the records had in the job that they failed in (`batch.failed_rows`)."""

    def to_json(self) -> dict[str, object]:
        """As the job's plan stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Source:
        """The source that `to_json` gave."""
        return cls(**stored)  # type: ignore[arg-type]

    def read(self, shard: Shard) -> bytes:
        """The bytes of a shard; none of an oversized one.

        Raises:
            PlatformError: `input_changed`.
        """
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                size = 0 if shard.is_oversized else shard.end - shard.start
                chunk = os.pread(file.fileno(), size, shard.start)
                self.check(os.fstat(file.fileno()))
        except FileNotFoundError as error:
            raise PlatformError(
                "input_changed", "The input was removed while the job was running."
            ) from error
        return chunk

    def check(self, status: os.stat_result) -> None:
        """Raise `input_changed` unless this is the file that was staged."""
        if (status.st_size, status.st_mtime_ns, status.st_ino) != (
            self.size_bytes,
            self.mtime_ns,
            self.inode,
        ):
            raise PlatformError("input_changed")


async def stage(url: str, folder: Path, settings: Settings, uploads: Uploads) -> Source:
    """Bring the input behind `url` to disk: in `folder`, or where it lies. `uploads` are the job's organization's.

    Raises:
        PlatformError: `url_not_allowed`, `input_not_found`, `input_unreachable`, `input_too_large`, `input_changed`,
            `invalid_format`, `storage_full`.
    """
    max_bytes, reserve_bytes = settings.batch.max_input_bytes, settings.files.min_free_bytes
    policy = policy_from(settings)
    parsed = check_url(url, policy)
    if parsed.scheme == "file":
        local = await to_thread.run_sync(open_local, url, policy)
        if local.size_bytes > max_bytes:
            raise _too_large(max_bytes)
        source = await to_thread.run_sync(_unpacked, local.path, folder, max_bytes, reserve_bytes)
        return replace(source, name=parsed.file_name)
    fetched = await fetch(
        url,
        folder / "input.fetched",
        policy=policy,
        max_bytes=max_bytes,
        timeouts=timeouts_from(settings.egress),
        reserve_bytes=reserve_bytes,
        uploads=uploads,
        not_found_code="input_not_found",
        unreachable_code="input_unreachable",
        too_large_code="input_too_large",
        changed_code="input_changed",
    )
    source = await to_thread.run_sync(_unpacked, fetched.path, folder, max_bytes, reserve_bytes)
    return replace(source, content_type=fetched.content_type, name=fetched.name)


def _unpacked(path: Path, folder: Path, max_bytes: int, reserve_bytes: int) -> Source:
    with path.open("rb") as file:
        magic = file.read(4)
    codec = next((name for prefix, name in _CODECS.items() if magic.startswith(prefix)), None)
    if codec is not None:
        target = folder / "input"
        unpack(path, target, codec, max_bytes=max_bytes, reserve_bytes=reserve_bytes)
        if path.parent == folder:
            path.unlink()
        path = target
    status = path.stat()
    return Source(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


def unpack(path: Path, target: Path, codec: str, *, max_bytes: int, reserve_bytes: int = 0) -> None:
    """Decompress `path` into `target`, which appears whole or not at all and leaves the reserve free.

    Raises:
        PlatformError: `invalid_format`, the stream is damaged; `input_too_large`, it grows beyond the caps;
            `storage_full`.
    """
    packed_bytes = path.stat().st_size
    cap = min(max_bytes, max(_FREE_GROWTH_BYTES, packed_bytes * _MAX_GROWTH))
    spool = Spool(target, reserve_bytes=reserve_bytes)
    try:
        with pa.OSFile(str(path), "rb") as raw, pa.CompressedInputStream(raw, codec) as stream:
            while block := _read(stream, codec):
                if spool.size_bytes + len(block) > cap:
                    raise _too_large(cap, " once it is unpacked")
                spool.write(block)
                reach("unpack.block")
        spool.publish()
    finally:
        spool.discard()


def _read(stream: pa.CompressedInputStream, codec: str) -> bytes:
    try:
        block: bytes = stream.read(_BLOCK_BYTES)
    except OSError as error:
        raise PlatformError(
            "invalid_format",
            f"The input begins like {codec}, but it is damaged or cut off. Compress it again.",
        ) from error
    return block


def _too_large(limit: int, when: str = "") -> PlatformError:
    return PlatformError(
        "input_too_large", f"The input is larger than {limit} bytes{when}. Split it into several jobs."
    )
