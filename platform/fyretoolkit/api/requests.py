"""Reading a request: headers, request id, content type, body.

Plain functions over an ASGI scope, because the predict path runs outside FastAPI and must behave alike.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from starlette.types import Receive, Scope

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id

Headers = Sequence[tuple[bytes, bytes]] | dict[bytes, list[bytes]]
"""As ASGI has them, or by name (`by_name`)."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_JSON_TYPE = re.compile(r"application/(?:json|[a-z0-9!#$&^_.+-]+\+json)")
_JSON = [b"application/json"]
_PROBLEM_CHARS = 100
BODY_S = 60.0
"""How long a JSON body may take to arrive: a request that waits for one holds its place."""

SERVE_HEADERS = frozenset(
    (
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-session-id",
    )
)
"""What Ray Serve would obey if a client sent it: no caller may switch our deadlines off."""


class ClientGoneError(Exception):
    """The client closed the connection before its request was read: nobody is there to answer."""


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """The values of each header, for who looks at several."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of a header; `name` is in lower case, as ASGI has them."""
    if isinstance(headers, dict):
        return headers.get(name, [])
    return [value for key, value in headers if key == name]


def request_id(headers: Headers) -> str:
    """The caller's X-Request-Id if it is well-formed, else a new one."""
    given = header_values(headers, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return new_id("req")


def base_url(scope: Scope, *, is_tls: bool = False) -> str:
    """Where the caller reached the API, without a trailing slash; empty if its Host header is not usable.

    `is_tls`: a proxy in front spoke TLS with the caller.
    """
    hosts = header_values(scope["headers"], b"host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return ""
    scheme = "https" if is_tls else scope.get("scheme", "http")
    return f"{scheme}://{hosts[0].decode('ascii')}"


def has_body(headers: Headers) -> bool:
    """Whether the request comes with a body, an empty one aside (RFC 9112, 6.3)."""
    lengths = header_values(headers, b"content-length")
    return lengths not in ([], [b"0"]) or bool(header_values(headers, b"transfer-encoding"))


def declared_length(headers: Headers) -> int | None:
    """The length that a request declares for its body; None if it names none that can be read."""
    declared = header_values(headers, b"content-length")
    return int(declared[0][:20]) if declared and declared[0].isdigit() else None


def check_json(headers: Headers) -> None:
    """Refuses a body that is not declared as plain JSON.

    Raises:
        PlatformError: `unsupported_media_type`.
    """
    if (
        isinstance(headers, dict)
        and headers.get(b"content-type") == _JSON
        and b"content-encoding" not in headers
    ):
        return
    distinct = dict.fromkeys(header_values(headers, b"content-type"))  # the same twice is no contradiction
    given = b", ".join(distinct).decode("latin-1")
    if not _is_plain_json(given):
        sent = f"it was sent as {given[:_PROBLEM_CHARS]!r}" if given else "it was sent without a content type"
        raise PlatformError(
            "unsupported_media_type",
            f"The body must be JSON, but {sent}. Add the header: -H 'content-type: application/json'",
        )
    encoding = b",".join(header_values(headers, b"content-encoding")).decode("latin-1")
    if encoding.lower() not in ("", "identity"):
        raise PlatformError(
            "unsupported_media_type", "The body is compressed. Send it plain, without a Content-Encoding."
        )


@lru_cache(maxsize=256)
def _is_plain_json(content_type: str) -> bool:
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    return bool(_JSON_TYPE.fullmatch(media_type.strip().lower())) and charset in ("", "charset=utf-8")


async def read_body(
    scope: Scope,
    receive: Receive,
    max_bytes: int,
    *,
    advice: str = "Send less.",
    hold: Callable[[int], None] = lambda _: None,
) -> bytes:
    """The whole body, of at most `max_bytes`; a longer one is refused before it is read, with `advice`.

    `hold` is told of every bytes that arrived, and may refuse them.

    Raises:
        PlatformError: `payload_too_large`; `request_timeout`, it took more than `BODY_S`; what `hold` raises.
        ClientGoneError: the connection was closed.
    """
    declared = declared_length(scope["headers"])
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes, advice)
    if is_body_here(receive):
        return await _collect(receive, max_bytes, advice, hold)
    try:
        async with asyncio.timeout(BODY_S):
            return await _collect(receive, max_bytes, advice, hold)
    except TimeoutError as error:
        raise PlatformError(
            "request_timeout", f"The body did not arrive within {BODY_S:g} s. Send it again, without pauses."
        ) from error


def is_body_here(receive: Receive) -> bool:
    """Whether a request's body has arrived whole, as far as the server's own note tells: then nothing is waited for.

    Source: uvicorn 0.30 to 0.54, `RequestResponseCycle.more_body`; another server's bodies count as on their way.
    """
    return getattr(getattr(receive, "__self__", None), "more_body", True) is False


def is_client_gone(receive: Receive) -> bool:
    """Whether the client of a request whose body was read has closed its connection.

    ASGI tells it to who waits for the next message, which takes a task a request; uvicorn's own note is free to read.
    Another server's clients count as there. Source: as above, `disconnected`.
    """
    return getattr(getattr(receive, "__self__", None), "disconnected", False) is True


async def _collect(receive: Receive, max_bytes: int, advice: str, hold: Callable[[int], None]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes, advice)
        hold(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int, advice: str) -> PlatformError:
    return PlatformError("payload_too_large", f"The body is larger than {max_bytes} bytes. {advice}")
