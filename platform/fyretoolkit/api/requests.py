"""Reading a request: headers, request id, content type, body.

Plain functions over an ASGI scope, because the predict path runs outside FastAPI and must behave alike.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from starlette.types import Receive, Scope

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id

Headers = Iterable[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_JSON_TYPE = re.compile(r"application/(?:json|[a-z0-9!#$&^_.+-]+\+json)")
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


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of a header; `name` is in lower case, as ASGI has them."""
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


def check_json(headers: Headers) -> None:
    """Refuses a body that is not declared as plain JSON.

    Raises:
        PlatformError: `unsupported_media_type`.
    """
    distinct = dict.fromkeys(header_values(headers, b"content-type"))  # the same twice is no contradiction
    given = b", ".join(distinct).decode("latin-1")
    media_type, _, parameters = given.partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if not _JSON_TYPE.fullmatch(media_type.strip().lower()) or charset not in ("", "charset=utf-8"):
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


async def read_body(scope: Scope, receive: Receive, max_bytes: int, *, advice: str = "Send less.") -> bytes:
    """The whole body, of at most `max_bytes`; a longer one is refused before it is read, with `advice`.

    Raises:
        PlatformError: `payload_too_large`; `request_timeout`, it took more than `BODY_S`.
        ClientGoneError: the connection was closed.
    """
    declared = header_values(scope["headers"], b"content-length")
    if declared and declared[0].isdigit() and int(declared[0][:20]) > max_bytes:
        raise _too_large(max_bytes, advice)
    try:
        async with asyncio.timeout(BODY_S):
            return await _collect(receive, max_bytes, advice)
    except TimeoutError as error:
        raise PlatformError(
            "request_timeout", f"The body did not arrive within {BODY_S:g} s. Send it again, without pauses."
        ) from error


async def _collect(receive: Receive, max_bytes: int, advice: str) -> bytes:
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
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int, advice: str) -> PlatformError:
    return PlatformError("payload_too_large", f"The body is larger than {max_bytes} bytes. {advice}")
