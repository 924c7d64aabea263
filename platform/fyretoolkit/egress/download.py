"""`https://`: one file from a server, over redirects and broken connections.

A connection that breaks in the middle is gone on with where it broke off, if the server gave a validator that tells
one version of the file from another and says that it serves ranges; If-Range makes it send the whole file where that
has changed. A server that cannot is asked for the whole file once more, and no oftener: each time costs it everything.
One that answers that it is busy, or that something went wrong, is asked again a few times over some seconds.
Whoever fetches says whether a changed file is taken from its beginning or is an error: a job's input is pinned.
Every attempt begins at the URL that the caller gave, so that a redirect to a link that expires is followed anew.
Source: RFC 9110 §8.8 (validators), §13.1.5 (If-Range), §14 (ranges).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import httpcore

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.exchange import NETWORK_FAILURES, chunks_of, exchange, words_of
from fyretoolkit.egress.pinned import checked_addresses
from fyretoolkit.egress.spool import in_thread
from fyretoolkit.egress.transfer import Fetched, Pace, Transfer
from fyretoolkit.egress.urls import ParsedUrl, Policy, UnsafeUrlError, check_parsed, join_url, refusal

_CHUNK_BYTES = 1 << 20
_PAUSES_S = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Before each further attempt."""
_MAX_RESTARTS = 1
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_LATER = frozenset({408, 429, 500, 502, 503, 504})
"""What a server answers that may answer otherwise in a moment."""
_HEADERS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"))
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(slots=True)
class _Progress:
    """What is known of the file from the answers so far."""

    url: ParsedUrl | None = None
    """Where its bytes came from, None before any: a validator means nothing elsewhere."""
    validator: str | None = None
    """What If-Range names; None: it cannot be gone on with."""
    version: tuple[str | None, str | None] = (None, None)
    """ETag and Last-Modified, fit for If-Range or not."""
    restarts: int = 0
    is_put_off: bool = False
    """By the last answer."""

    @property
    def may_go_on(self) -> bool:
        """Whether another attempt could bring what is missing."""
        if self.url is None:
            return self.is_put_off
        return self.validator is not None or self.restarts < _MAX_RESTARTS


async def download(job: Transfer, url: ParsedUrl, policy: Policy) -> Fetched:
    """The file at a URL that the policy allows; `fetch` says what it raises."""
    progress = _Progress()
    for pause_s in (*_PAUSES_S, None):
        progress.is_put_off = False
        try:
            return await _attempt(job, url, policy, progress)
        except PlatformError as error:
            is_broken = error.code == job.codes["unreachable_code"] and progress.may_go_on
            if pause_s is None or not is_broken:
                raise
        await asyncio.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


async def _attempt(job: Transfer, url: ParsedUrl, policy: Policy, progress: _Progress) -> Fetched:
    """Follows redirects by hand: each target is checked as the first URL was, and more strictly (`Policy.after`)."""
    for _ in range(policy.max_redirects + 1):
        async with _get(job, url, policy, progress) as response:
            location = _location(job, url, response, progress)
            if location is None:
                return await _receive(job, url, response, progress)
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
async def _get(
    job: Transfer, url: ParsedUrl, policy: Policy, progress: _Progress
) -> AsyncIterator[httpcore.Response]:
    """The answer to one GET, not yet read; failures of the network on the way are translated."""
    try:
        addresses = await checked_addresses(url, policy, job.resolve)
    except OSError as error:
        raise job.unreachable(url, "cannot be resolved to an address: check the host name") from error
    headers = (*_HEADERS, *_range_headers(job, progress))
    try:
        async with exchange("GET", url, addresses, headers, job.timeouts) as response:
            yield response
    except tuple(kind for kind, _ in NETWORK_FAILURES) as error:
        raise job.unreachable(url, words_of(error)) from error


def _range_headers(job: Transfer, progress: _Progress) -> tuple[tuple[bytes, bytes], ...]:
    """What is still missing of the same version of the file; nothing where all of it is asked for."""
    if progress.validator is None or not job.spool.size_bytes:
        return ()
    return (
        (b"Range", f"bytes={job.spool.size_bytes}-".encode("ascii")),
        (b"If-Range", progress.validator.encode("latin-1")),
    )


def _location(
    job: Transfer, url: ParsedUrl, response: httpcore.Response, progress: _Progress
) -> bytes | None:
    """Where the answer sends us, None when it is the file itself or the rest of it; any other answer is an error."""
    if response.status in _GONE:
        raise job.missing(url, response.status)
    if response.status in _REDIRECTS:
        locations = _values(response, b"location")
        if len(locations) == 1:
            return locations[0]
        raise job.unreachable(url, f"answered {response.status} without saying where to")
    is_rest = response.status == 206 and bool(_range_headers(job, progress))
    if response.status == 416:
        progress.validator = None  # it has no more than what is there: the next attempt asks for all of it
    progress.is_put_off = response.status in _LATER
    if response.status != 200 and not is_rest:
        raise job.unreachable(url, f"answered {response.status}")
    return None


async def _receive(
    job: Transfer, url: ParsedUrl, response: httpcore.Response, progress: _Progress
) -> Fetched:
    codings = b",".join(_values(response, b"content-encoding")).decode("latin-1").lower()
    if codings.strip() not in ("", "identity"):
        progress.url = None  # it would be sent again
        raise job.unreachable(
            url, "answered with a Content-Encoding that was not asked for; serve the file as it is"
        )
    size_bytes = await _place(job, url, response, progress)
    for announced in _values(response, b"content-length"):
        job.ensure_fits(job.spool.size_bytes + int(announced))
        job.ensure_room(job.spool.size_bytes + int(announced))
    buffer, pace = bytearray(), Pace(job.timeouts.min_bytes_per_s)
    try:
        async for chunk in chunks_of(response):
            buffer += chunk
            if not pace.is_kept(len(chunk)):
                progress.url = None
                raise job.unreachable(url, f"sent less than {job.timeouts.min_bytes_per_s} bytes a second")
            job.ensure_fits(job.spool.size_bytes + len(buffer))
            if len(buffer) >= _CHUNK_BYTES:
                await in_thread(job.spool.write, buffer)
                buffer = bytearray()
    finally:  # also where the connection broke: there the next attempt goes on
        await in_thread(job.spool.write, buffer)
    if size_bytes not in (None, job.spool.size_bytes):
        progress.url = None
        raise job.unreachable(url, "sent more or less than it had announced")
    return await job.published(
        url, content_type=_text(response, b"content-type"), etag=_text(response, b"etag")
    )


async def _place(
    job: Transfer, url: ParsedUrl, response: httpcore.Response, progress: _Progress
) -> int | None:
    """Makes the answer's bytes follow those that are there, or begin anew; the file's size, where a 206 says it."""
    if job.spool.size_bytes and _is_changed(url, response, progress) and (changed := job.changed(url)):
        raise changed
    if response.status == 206:
        size_bytes = _size_if_continued(job, url, response, progress)
        if size_bytes is None:
            progress.validator = None  # the next attempt asks for all of it
            raise job.unreachable(url, "does not go on with the file where the connection broke")
        return size_bytes
    if job.spool.size_bytes:
        progress.restarts += 1
        if progress.restarts > _MAX_RESTARTS:
            progress.url = None
            raise job.unreachable(
                url, "broke the connection again, and sends the file from its beginning alone"
            )
        await in_thread(job.spool.restart)
    progress.url, progress.validator = url, _validator(response)
    progress.version = _version(response)
    return None


def _is_changed(url: ParsedUrl, response: httpcore.Response, progress: _Progress) -> bool:
    """Whether this is another version than was begun, of the same file, by its ETag or else by its date."""
    if not _is_place(url, progress.url):
        return False
    pairs = zip(progress.version, _version(response), strict=True)
    return next((known != now for known, now in pairs if known and now), False)


def _version(response: httpcore.Response) -> tuple[str | None, str | None]:
    return _text(response, b"etag"), _text(response, b"last-modified")


def _is_place(url: ParsedUrl, known: ParsedUrl | None) -> bool:
    """Whether bytes of `url` may follow those of `known`: queries alone, signatures perhaps, may differ."""
    return known is not None and (known.scheme, known.authority, known.path) == (
        url.scheme,
        url.authority,
        url.path,
    )


def _size_if_continued(
    job: Transfer, url: ParsedUrl, response: httpcore.Response, progress: _Progress
) -> int | None:
    """The size of the whole file, if a 206 is all that is missing of the version that was begun."""
    if not _is_place(url, progress.url):
        return None
    matched = _CONTENT_RANGE.fullmatch(_text(response, b"content-range") or "")
    if matched is None:
        return None
    start, end, size = map(int, matched.groups())
    validator = progress.validator or ""
    version = _text(response, b"etag" if validator.startswith('"') else b"last-modified")
    is_rest = start == job.spool.size_bytes and end == size - 1 and version in (None, validator)
    return size if is_rest else None


def _validator(response: httpcore.Response) -> str | None:
    """What tells this version of the file from every other, if the server serves ranges of it."""
    if (_text(response, b"accept-ranges") or "").lower() != "bytes":
        return None
    etag = _text(response, b"etag")
    if etag is not None:
        return etag if etag.startswith('"') else None  # W/: another version may have it too
    modified, date = _text(response, b"last-modified"), _text(response, b"date")
    if modified is None or date is None:
        return None
    first, then = _time(modified), _time(date)
    # Within a second of its change it may change again and keep the date (RFC 9110 §8.8.2.2).
    is_strong = first is not None and then is not None and then - first >= timedelta(seconds=1)
    return modified if is_strong else None


def _time(header: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else None


def _values(response: httpcore.Response, name: bytes) -> list[bytes]:
    return [value for key, value in response.headers if key.lower() == name]


def _text(response: httpcore.Response, name: bytes) -> str | None:
    values = _values(response, name)
    return values[0].decode("latin-1").strip() or None if values else None
