"""The one door through which a caller's URL becomes a local file: `input_url` and `model_uri` alike.

Every hop is parsed, checked, resolved once and connected to by checked address (`urls.py`, `pinned.py`); redirects
are followed by hand so that each is a new URL of an untrusted origin. What comes in is bounded in bytes and in time
and is taken as it is on the server: compressed transfers are not asked for, so a small answer cannot grow here.
Errors are `PlatformError`s with the codes that the caller names, and their messages never hold a query string.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

import httpcore

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import clean_filename
from fyretoolkit.egress.local import open_file
from fyretoolkit.egress.pinned import Resolver, checked_addresses, open_pool, resolve_host
from fyretoolkit.egress.spool import Spool, in_thread, sync_folder
from fyretoolkit.egress.uploads import Uploads, link_content
from fyretoolkit.egress.urls import (
    ParsedUrl,
    Policy,
    UnsafeUrlError,
    check_parsed,
    check_url,
    join_url,
    refusal,
)
from fyretoolkit.settings import EgressSettings

_CHUNK_BYTES = 1 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_FAILURES: tuple[
    tuple[type[Exception], str], ...
] = (  # the first that fits; together all that httpcore raises
    (httpcore.ConnectTimeout, "did not accept a connection in time"),
    (httpcore.TimeoutException, "was silent for too long"),
    (httpcore.ConnectError, "refused the connection"),
    (httpcore.NetworkError, "broke the connection"),
    (httpcore.ProtocolError, "ended its answer early, or does not speak HTTP"),
    (ssl.SSLError, "does not speak TLS as expected"),
)
_HEADERS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"), (b"Connection", b"close"))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for a connection to one address, between two reads, and for the whole fetch with its redirects."""

    connect_s: float
    read_s: float
    total_s: float


class FailureCodes(TypedDict):
    """The codes of the catalogue by which one kind of source reports its failures."""

    not_found_code: str
    unreachable_code: str
    too_large_code: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was received whole."""

    path: Path
    size_bytes: int
    sha256: str
    content_type: str | None
    """The Content-Type header; None for a file, or when the server sent none."""
    etag: str | None
    final_url: str
    """Where the last redirect led, without its query: fit for logs, not for a new fetch."""
    name: str
    """An upload's own file name, else the last part of the first URL's path: its suffix says the format. No path."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What stays the same over all hops of one fetch."""

    spool: Spool
    destination: Path
    max_bytes: int
    timeouts: Timeouts
    resolve: Resolver
    codes: FailureCodes
    name: str

    def gone(self, url: ParsedUrl) -> PlatformError:
        return PlatformError(
            self.codes["not_found_code"],
            f"The file {url.shown} was deleted or has expired. Upload it again with POST /files.",
        )

    def unreachable(self, url: ParsedUrl, why: str) -> PlatformError:
        return PlatformError(self.codes["unreachable_code"], f"{url.authority} {why}.")

    def missing(self, url: ParsedUrl, status: int) -> PlatformError:
        return PlatformError(
            self.codes["not_found_code"], f"{url.authority} answered {status}: check the URL."
        )

    def ensure_fits(self, size_bytes: int) -> None:
        """Refuses a source of `size_bytes`, or of at least that many."""
        if size_bytes > self.max_bytes:
            raise PlatformError(
                self.codes["too_large_code"], f"The file is larger than the limit of {self.max_bytes} bytes."
            )


def timeouts_from(egress: EgressSettings) -> Timeouts:
    """The configured timeouts; narrow `total_s` with `dataclasses.replace` where less time is given."""
    return Timeouts(egress.connect_timeout_s, egress.read_timeout_s, egress.total_timeout_s)


async def fetch(
    url: str,
    destination: Path,
    *,
    policy: Policy,
    max_bytes: int,
    timeouts: Timeouts,
    resolve: Resolver = resolve_host,
    uploads: Uploads | None = None,
    **codes: Unpack[FailureCodes],
) -> Fetched:
    """The content of `url`, written durably to `destination`, whose folder must exist; nothing is left on failure.

    `uploads` are those of the organization that gave the URL; None: it has none. The content of one is shared with
    the upload where the file system can: it must not be written to.

    Raises:
        PlatformError: `url_not_allowed`; `not_found_code` for 404, 410 and a missing file; `too_large_code` above
            `max_bytes`; `unreachable_code` for everything else that the source did wrong, deadlines included.
        OSError: the platform's own disk failed.
    """
    parsed = check_url(url, policy)
    spool = Spool(destination)  # not in a thread: a cancellation there would leave its file behind
    job = _Fetch(spool, destination, max_bytes, timeouts, resolve, codes, clean_filename(parsed.file_name))
    deadline = asyncio.timeout(timeouts.total_s)
    try:
        async with deadline:
            if parsed.scheme == "fyre":
                return await _take(job, parsed, uploads)
            if parsed.scheme == "file":
                file, source = await in_thread(open_file, parsed, policy, codes["not_found_code"])
                return await _copy(job, parsed, file, source.size_bytes)
            return await _download(job, parsed, policy)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise job.unreachable(parsed, f"did not send the whole file within {timeouts.total_s:g} s") from error
    finally:
        await in_thread(spool.discard)


async def _take(job: _Fetch, url: ParsedUrl, uploads: Uploads | None) -> Fetched:
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


async def _copy(job: _Fetch, url: ParsedUrl, file: BinaryIO, size_bytes: int) -> Fetched:
    try:
        job.ensure_fits(size_bytes)
        while await in_thread(_copy_chunk, file, job.spool):
            job.ensure_fits(job.spool.size_bytes)  # the file may be growing
    finally:
        await in_thread(file.close)
    return await _published(job, url)


def _copy_chunk(file: BinaryIO, spool: Spool) -> int:
    chunk = file.read(_CHUNK_BYTES)
    spool.write(chunk)
    return len(chunk)


async def _download(job: _Fetch, url: ParsedUrl, policy: Policy) -> Fetched:
    """Follows redirects by hand: each target is checked as the first URL was, and more strictly (`Policy.after`)."""
    for _ in range(policy.max_redirects + 1):
        async with _get(job, url, policy) as response:
            location = _location(job, url, response)
            if location is None:
                return await _receive(job, url, response)
        policy = policy.after(url)
        try:
            url = join_url(url, location.decode("utf-8"))
        except (UnsafeUrlError, UnicodeDecodeError) as error:
            raise refusal(
                f"{url.authority} redirects to something that is not a plain URL", policy
            ) from error
        check_parsed(url, policy)
    raise job.unreachable(url, f"is one redirect too many: at most {policy.max_redirects} are followed")


@asynccontextmanager
async def _get(job: _Fetch, url: ParsedUrl, policy: Policy) -> AsyncIterator[httpcore.Response]:
    """The answer to one GET, not yet read; failures of the network on the way are translated."""
    try:
        addresses = await checked_addresses(url, policy, job.resolve)
    except OSError as error:
        raise job.unreachable(url, "cannot be resolved to an address: check the host name") from error
    limits = job.timeouts
    origin = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
    timeout = {
        "connect": limits.connect_s,
        "read": limits.read_s,
        "write": limits.read_s,
        "pool": limits.connect_s,
    }
    headers = ((b"Host", url.authority.encode("ascii")), *_HEADERS)
    try:
        async with (
            open_pool(addresses) as pool,
            pool.stream("GET", origin, headers=headers, extensions={"timeout": timeout}) as response,
        ):
            yield response
    except tuple(kind for kind, _ in _FAILURES) as error:
        raise job.unreachable(url, _words(error)) from error


def _words(error: Exception) -> str:
    """What the network did, without repeating text that the other side chose."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = (
            cause.__cause__ or cause.__context__
        )  # httpcore's pool raises `from None`, which drops the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"has no valid certificate ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return "does not speak TLS as expected"
    return next(words for kind, words in _FAILURES if isinstance(error, kind))


def _location(job: _Fetch, url: ParsedUrl, response: httpcore.Response) -> bytes | None:
    """Where the answer sends us, None when it is the file itself; any other answer is an error."""
    if response.status in _GONE:
        raise job.missing(url, response.status)
    if response.status in _REDIRECTS:
        locations = _values(response, b"location")
        if len(locations) == 1:
            return locations[0]
        raise job.unreachable(url, f"answered {response.status} without saying where to")
    if response.status != 200:
        raise job.unreachable(url, f"answered {response.status}")
    return None


async def _receive(job: _Fetch, url: ParsedUrl, response: httpcore.Response) -> Fetched:
    codings = b",".join(_values(response, b"content-encoding")).decode("latin-1").lower()
    if codings.strip() not in ("", "identity"):
        raise job.unreachable(
            url, "answered with a Content-Encoding that was not asked for; serve the file as it is"
        )
    for announced in _values(response, b"content-length"):
        job.ensure_fits(int(announced))
    buffer = bytearray()
    async for chunk in response.aiter_stream():
        buffer += chunk
        job.ensure_fits(job.spool.size_bytes + len(buffer))
        if len(buffer) >= _CHUNK_BYTES:
            await in_thread(job.spool.write, buffer)
            buffer = bytearray()
    await in_thread(job.spool.write, buffer)
    return await _published(
        job, url, content_type=_text(response, b"content-type"), etag=_text(response, b"etag")
    )


async def _published(
    job: _Fetch, url: ParsedUrl, *, content_type: str | None = None, etag: str | None = None
) -> Fetched:
    await in_thread(job.spool.publish)
    spool = job.spool
    return Fetched(job.destination, spool.size_bytes, spool.sha256, content_type, etag, url.shown, job.name)


def _values(response: httpcore.Response, name: bytes) -> list[bytes]:
    return [value for key, value in response.headers if key.lower() == name]


def _text(response: httpcore.Response, name: bytes) -> str | None:
    values = _values(response, name)
    return values[0].decode("latin-1").strip() or None if values else None
