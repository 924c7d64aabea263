"""One POST to an address that a caller gave, as a webhook is sent: guarded as every fetch is, never redirected.

The URL is checked anew, resolved once and connected to by checked address at every attempt: what it led to when the job
was created says nothing of now. Everything together has one deadline, so that an answer that comes a byte a second ends
with it. Of the answer the status counts and one header; its body is thrown away, a few KiB read so that the other side
need not see its answer refused. What it says is kept nowhere: a caller who got it to read would have a way to look into
the network that the guard is there to close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpcore

from fyretoolkit.egress.exchange import NETWORK_FAILURES, exchange, words_of
from fyretoolkit.egress.pinned import Resolver, checked_addresses, resolve_host
from fyretoolkit.egress.transfer import Timeouts
from fyretoolkit.egress.urls import Policy, check_url

_MAX_READ_BYTES = 4096
_MAX_READ_CHUNKS = 64
_READ_S = 1.0
"""So long the rest of a small answer may take."""
_FAILED: tuple[type[Exception], ...] = (TimeoutError, *(kind for kind, _ in NETWORK_FAILURES))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said."""

    status: int
    retry_after: str | None


class NotPostedError(Exception):
    """There is no answer. The message says why, in words that may be shown to the caller."""


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    policy: Policy,
    timeouts: Timeouts,
    resolve: Resolver = resolve_host,
) -> Answer:
    """Send `body` to `url`; the answer, if its status came within `timeouts.total_s`.

    Raises:
        PlatformError: `url_not_allowed`, and nothing was connected to.
        NotPostedError: there is no answer. The other side may have read the body all the same.
    """
    parsed = check_url(url, policy)
    said: list[Answer] = []
    try:
        async with asyncio.timeout(timeouts.total_s):
            addresses = await checked_addresses(parsed, policy, resolve)
            sent = {**headers, "Content-Length": str(len(body))}
            raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()]
            async with exchange("POST", parsed, addresses, raw, timeouts, body=body) as response:
                said.append(Answer(response.status, _header(response, b"retry-after")))
                await _pass_over(response)
                return said[0]
    except TimeoutError as error:
        if said:  # it came in time, and only its body did not
            return said[0]
        raise NotPostedError(f"{parsed.authority} did not answer within {timeouts.total_s:g} s") from error
    except _FAILED as error:
        raise NotPostedError(f"{parsed.authority} {words_of(error)}") from error
    except OSError as error:
        raise NotPostedError(f"{parsed.authority} cannot be resolved to an address") from error


async def _pass_over(response: httpcore.Response) -> None:
    """Read a little of the body; whatever comes of that, the status has been said."""
    chunks = read = 0
    try:
        async with asyncio.timeout(_READ_S):
            async for chunk in response.aiter_stream():
                chunks, read = chunks + 1, read + len(chunk)
                if read > _MAX_READ_BYTES or chunks > _MAX_READ_CHUNKS:
                    return
    except _FAILED:
        return


def _header(response: httpcore.Response, name: bytes) -> str | None:
    values = [value for key, value in response.headers if key.lower() == name]
    return values[0].decode("latin-1") if values else None
