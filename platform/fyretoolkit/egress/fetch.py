"""The one door through which a caller's URL becomes a local file: `input_url` and `model_uri` alike.

Every hop is parsed, checked, resolved once and connected to by checked address (`urls.py`, `pinned.py`); redirects
are followed by hand so that each is a new URL of an untrusted origin (`download.py`). What comes in is bounded in bytes
and in time and is taken as it is on the server: compressed transfers are not asked for, so a small answer cannot grow
here. Errors are `PlatformError`s with the codes that the caller names, and their messages never hold a query string.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Unpack

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import clean_filename
from fyretoolkit.egress.buckets import copy_object
from fyretoolkit.egress.download import download
from fyretoolkit.egress.local import open_file
from fyretoolkit.egress.pinned import Resolver, resolve_host
from fyretoolkit.egress.spool import Spool, in_thread, sync_folder
from fyretoolkit.egress.transfer import FailureCodes, Fetched, Timeouts, Transfer
from fyretoolkit.egress.uploads import Uploads, link_content
from fyretoolkit.egress.urls import ParsedUrl, Policy, check_url
from fyretoolkit.settings import EgressSettings

_CHUNK_BYTES = 1 << 20


def timeouts_from(egress: EgressSettings) -> Timeouts:
    """The configured timeouts; narrow `total_s` with `dataclasses.replace` where less time is given."""
    return Timeouts(
        egress.connect_timeout_s, egress.read_timeout_s, egress.total_timeout_s, egress.min_bytes_per_s
    )


async def fetch(
    url: str,
    destination: Path,
    *,
    policy: Policy,
    max_bytes: int,
    timeouts: Timeouts,
    reserve_bytes: int | None = None,
    resolve: Resolver = resolve_host,
    uploads: Uploads | None = None,
    **codes: Unpack[FailureCodes],
) -> Fetched:
    """The content of `url`, written durably to `destination`, whose folder must exist; nothing is left on failure.

    `uploads` are those of the organization that gave the URL; None: it has none. The content of one is shared with
    the upload where the file system can: it must not be written to. `reserve_bytes`: as `Spool`'s.

    Raises:
        PlatformError: `url_not_allowed`; `not_found_code` for 404, 410 and a missing file; `too_large_code` above
            `max_bytes`; `storage_full`, with a reserve; `changed_code`, where one is given; `unreachable_code` for
            everything else that the source did wrong, deadlines included.
        OSError: the platform's own disk failed.
    """
    parsed = check_url(url, policy)
    spool = Spool(
        destination, reserve_bytes=reserve_bytes
    )  # not in a thread: a cancellation there would leave its file behind
    job = Transfer(spool, destination, max_bytes, timeouts, resolve, codes, clean_filename(parsed.file_name))
    deadline = asyncio.timeout(timeouts.total_s)
    try:
        async with deadline:
            if parsed.scheme == "fyre":
                return await _take(job, parsed, uploads)
            if parsed.scheme == "file":
                file, source = await in_thread(open_file, parsed, policy, codes["not_found_code"])
                return await _copy(job, parsed, file, source.size_bytes)
            if parsed.scheme == "s3":
                return await copy_object(job, parsed, policy)
            return await download(job, parsed, policy)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise job.unreachable(parsed, f"did not send the whole file within {timeouts.total_s:g} s") from error
    finally:
        await in_thread(spool.discard)


async def fetch_folder(
    folder_url: ParsedUrl,
    destination: Path,
    names: Sequence[str],
    *,
    policy: Policy,
    max_bytes: int,
    timeouts: Timeouts,
    **codes: Unpack[FailureCodes],
) -> None:
    """Those of the named objects that lie beneath a folder's URL, into `destination`; one of them at least.

    `max_bytes` and `timeouts.total_s` are for all of them together. They are asked for by name: a list of what lies
    there may be as long as its owner likes.

    Raises:
        PlatformError: as `fetch`.
    """
    ends_at = time.monotonic() + timeouts.total_s
    found_bytes: list[int] = []
    for name in names:
        left_s = max(ends_at - time.monotonic(), 0)
        try:
            fetched = await fetch(
                f"{folder_url.shown}{name}",
                destination / name,
                policy=policy,
                max_bytes=max_bytes - sum(found_bytes),
                timeouts=replace(timeouts, total_s=left_s),
                **codes,
            )
        except PlatformError as error:
            if error.code != codes["not_found_code"]:
                raise
        else:
            found_bytes.append(fetched.size_bytes)
    if not found_bytes:
        raise PlatformError(
            codes["not_found_code"], f"Beneath {folder_url.shown} there is none of {', '.join(names)}."
        )


async def _take(job: Transfer, url: ParsedUrl, uploads: Uploads | None) -> Fetched:
    """An uploaded file: linked, or copied where the file system does not link."""
    upload = await uploads.find(url.file_name) if uploads else None
    if uploads is None or upload is None:
        raise job.gone(url)
    job.ensure_fits(upload.size_bytes)
    path = uploads.path_of(upload)
    named = replace(job, name=upload.filename)
    try:
        if not await in_thread(link_content, path, job.destination):
            return await _copy(named, url, await in_thread(path.open, "rb"), upload.size_bytes)
    except FileNotFoundError as error:
        raise job.gone(url) from error
    await in_thread(sync_folder, job.destination.parent)
    return Fetched(job.destination, upload.size_bytes, upload.sha256, None, None, url.shown, named.name)


async def _copy(job: Transfer, url: ParsedUrl, file: BinaryIO, size_bytes: int) -> Fetched:
    try:
        job.ensure_fits(size_bytes)
        job.ensure_room(size_bytes)
        while await in_thread(_copy_chunk, file, job.spool):
            job.ensure_fits(job.spool.size_bytes)  # the file may be growing
    finally:
        await in_thread(file.close)
    return await job.published(url)


def _copy_chunk(file: BinaryIO, spool: Spool) -> int:
    chunk = file.read(_CHUNK_BYTES)
    spool.write(chunk)
    return len(chunk)
