"""Results beside the platform: the assembled output and its errors, at the `s3://` or `file://` URL of a job.

What appears there is whole. An object is one multipart upload (or one small PUT), which the service shows when it is
completed and not before; a file is written aside and renamed. The errors go first, so whoever finds the output finds
its errors too. Results that lack rows get another name, `scores.partial.jsonl` for `scores.jsonl`: a reader that waits
for the object must not take them for all. What is there under these names is replaced.

The job's folder keeps its own copy: `output_url` works, and a storage that fails loses nothing.
Rejected: server-side compose of part objects (UploadPartCopy), which wants parts of 5 MiB where ours are of a second's
work, and leaves them behind where a run dies. What a killed upload leaves is invisible, and billed until it is aborted:
by the next upload to the same name (`objects.abandoned`), or by the bucket's own rule. So of two that write to one name
at the same time the later one wins, and the other fails.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from batch.assembly import Output
from batch.parts import PartFile
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.spool import Spool
from fyretoolkit.egress.urls import ParsedUrl, UnsafeUrlError, check_file_path, parse_url, policy_from
from fyretoolkit.objects.abandoned import abort_uploads
from fyretoolkit.objects.client import (
    CHUNK_BYTES,
    ObjectNotFoundError,
    StorageError,
    open_client,
    storage_errors,
)
from fyretoolkit.settings import Settings

_MEDIA_TYPES = {".csv": "text/csv"}
_JSONL = "application/jsonl"
_SUFFIXES = frozenset({".jsonl", ".csv", ".ndjson", ".json"})

_FILE_MODE = 0o644
"""For whoever may enter the folder: the file is not the platform's any more."""

_left_open: list[Any] = []
"""Uploads that must not be completed: closing one completes it, and so would its destructor."""


class StoppedError(Exception):
    """The run was stopped while its results were on their way: nothing of what was under way appears."""


@dataclass(frozen=True, slots=True)
class Names:
    """Where the two files of an output go."""

    results: ParsedUrl
    errors: ParsedUrl


def check_destination(url: str, settings: Settings) -> ParsedUrl:
    """The parsed URL, if results may be written there as far as its text tells.

    Raises:
        PlatformError: `url_not_allowed`.
    """
    try:
        parsed = parse_url(url)
    except UnsafeUrlError as error:
        raise _refused(str(error), settings) from error
    if parsed.scheme == "s3":
        _check_bucket(parsed, settings)
    elif parsed.scheme == "file":
        _check_path(parsed.path, settings)
    else:
        raise _refused(f"{parsed.scheme}:// cannot be written to", settings)
    if not parsed.file_name or parsed.is_object_folder:
        raise _refused("it names a folder; name the output file, such as scores.jsonl", settings)
    return parsed


def names_of(url: ParsedUrl, *, is_partial: bool) -> Names:
    """`scores.jsonl`: that and `scores.errors.jsonl`; where rows are missing, `scores.partial.jsonl` and so on."""
    path = PurePosixPath(url.file_name)
    stem, suffix = (path.stem, path.suffix) if path.suffix in _SUFFIXES else (path.name, "")
    if is_partial:
        stem = f"{stem}.partial"
    return Names(_named(url, f"{stem}{suffix}"), _named(url, f"{stem}.errors.jsonl"))


def deliver(
    url: str, folder: Path, output: Output, settings: Settings, stop: threading.Event | None = None
) -> Names:
    """Write an assembled output of `folder` to its destination; what was written. Blocks.

    Raises:
        PlatformError: `url_not_allowed`, it is not (any more) a place to write to; `output_unreachable`.
        StoppedError: `stop` was set.
    """
    names = names_of(check_destination(url, settings), is_partial=output.is_partial)
    for target, file in ((names.errors, output.errors), (names.results, output.results)):
        if stop is not None and stop.is_set():  # before the uploads of others to this name are ended
            raise StoppedError
        blocks = _blocks(folder, file, stop or threading.Event())
        if target.scheme == "s3":
            _send(target, blocks, settings)
        else:
            _write(target, blocks, settings)
    return names


def _send(target: ParsedUrl, blocks: Iterator[bytes], settings: Settings) -> None:
    """One object. An upload that ends early is never closed."""
    egress = settings.egress
    media_type = _MEDIA_TYPES.get(PurePosixPath(target.file_name).suffix, _JSONL)
    abort_uploads(egress.s3, target.object_path, timeout_s=egress.read_timeout_s)
    try:
        with storage_errors():
            client = open_client(egress.s3, connect_s=egress.connect_timeout_s, read_s=egress.read_timeout_s)
            stream = client.open_output_stream(target.object_path, metadata={"Content-Type": media_type})
        _left_open.append((client, stream))
        for block in blocks:
            with storage_errors():
                stream.write(block)
        with storage_errors():
            stream.close()
    except ObjectNotFoundError as error:
        raise _unreachable(target, "has no such bucket") from error
    except StorageError as error:
        raise _unreachable(target, error.words) from error
    _left_open.remove((client, stream))


def _write(target: ParsedUrl, blocks: Iterator[bytes], settings: Settings) -> None:
    """One file, in a folder that exists, whose links are resolved before it is checked again."""
    path = Path(target.path)
    try:
        real = path.parent.resolve(strict=True) / path.name
        _check_path(str(real), settings)
        if real.is_dir() or real.is_symlink():
            raise _refused("there is a folder or a link at this place", settings)
        spool = Spool(real, reserve_bytes=settings.files.min_free_bytes)
        try:
            for block in blocks:
                spool.write(block)
            spool.publish()
            real.chmod(_FILE_MODE)
        finally:
            spool.discard()
    except OSError as error:
        raise PlatformError(
            "output_unreachable",
            f"{target.shown} cannot be written: {error.strerror}. The folder must exist and be the platform's to "
            "write to; the results are at output_url.",
        ) from error
    except PlatformError as error:
        if error.code != "storage_full":
            raise
        raise PlatformError(  # not `storage_full`: the job has its own copy, and does not wait for this one
            "output_unreachable",
            f"{target.shown} cannot be written: its disk has no room left. The results are at output_url.",
        ) from error


def _blocks(folder: Path, file: PartFile, stop: threading.Event) -> Iterator[bytes]:
    """The content of an assembled file; it ends in an error unless its digest is right."""
    digest = hashlib.sha256()
    with (folder / file.name).open("rb") as source:
        while block := source.read(CHUNK_BYTES):
            if stop.is_set():
                raise StoppedError
            digest.update(block)
            yield block
    if stop.is_set():  # the next thing is that it appears
        raise StoppedError
    if digest.hexdigest() != file.sha256:
        raise PlatformError("run_failed", f"The results are damaged: {file.name}. Create the job again.")


def _check_bucket(url: ParsedUrl, settings: Settings) -> None:
    hidden = settings.artifacts_bucket
    if not any(url.object_path.startswith(f"{root.rstrip('/')}/") for root in settings.egress.s3.write_roots):
        raise _refused(
            f"{url.shown} is in no bucket that the platform may write to; its operator lists those in "
            "egress.s3.write_roots",
            settings,
        )
    if hidden and url.object_path.startswith(f"{hidden}/"):
        raise _refused("the platform keeps its own objects there", settings)


def _check_path(path: str, settings: Settings) -> None:
    """The roots of files are those that are read: development's alone."""
    policy = policy_from(settings)
    if "file" not in policy.schemes:
        raise _refused("file:// is not allowed here", settings)
    try:
        check_file_path(path, policy)
    except PlatformError:
        raise _refused("it is outside the folders that the platform may write to", settings) from None


def _refused(reason: str, settings: Settings) -> PlatformError:
    roots = " or ".join(settings.egress.s3.write_roots)
    allowed = f"s3:// beneath {roots}; " if roots else ""
    if settings.is_development and settings.egress.development_file_roots:
        allowed += f"file:// beneath {' or '.join(map(str, settings.egress.development_file_roots))}; "
    return PlatformError(
        "url_not_allowed",
        f"Results may not be written there: {reason}. Allowed: {allowed}none at all, and output_url has them.",
    )


def _unreachable(target: ParsedUrl, words: str) -> PlatformError:
    return PlatformError(
        "output_unreachable",
        f"The object storage {words}: {target.shown} was not written. The results are at output_url.",
    )


def _named(url: ParsedUrl, name: str) -> ParsedUrl:
    folder = url.path.rpartition("/")[0]
    return replace(url, path=f"{folder}/{name if url.scheme == 'file' else quote(name)}")
