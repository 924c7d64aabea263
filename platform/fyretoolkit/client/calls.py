"""One call of the API before it is sent: what goes over the wire, and whether that may go twice.

Resources make calls and read answers; the transport alone sends them. So whatever a call means is written once, for
both clients.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from fyretoolkit.client.inputs import dump

SLOWEST_UPLOAD_BYTES_PER_S = 1 << 20
"""An upload has this much more time than another call, by its size."""
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `is_repeatable`: it may be sent again although nobody knows what became of the first time."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Path | None = None
    """The body: bytes, or a file that is streamed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True

    @property
    def extra_timeout_s(self) -> float:
        """What the body needs on its way, beside the time that every call has."""
        if isinstance(self.content, Path):
            return self.content.stat().st_size / SLOWEST_UPLOAD_BYTES_PER_S
        return len(self.content or b"") / SLOWEST_UPLOAD_BYTES_PER_S


def get(path: str, **query: object) -> Call:
    """A call that reads; query values that are None are left out."""
    named = {name: str(value) for name, value in query.items() if value is not None}
    return Call("GET", path, query=named)


def delete(path: str) -> Call:
    """A call that deletes, which can be done again."""
    return Call("DELETE", path)


def post(path: str, *, is_repeatable: bool, **fields: object) -> Call:
    """A call with a JSON body; fields that are None are left out."""
    return send_json("POST", path, left_in(fields), is_repeatable=is_repeatable)


def create(path: str, idempotency_key: str | None, **fields: object) -> Call:
    """A call that makes something, once however often it is sent: it always carries an idempotency key."""
    call = send_json("POST", path, left_in(fields))
    return with_idempotency_key(call, idempotency_key)


def with_idempotency_key(call: Call, key: str | None) -> Call:
    """The same call with this idempotency key, else with one of its own."""
    headers = {**call.headers, "idempotency-key": key or uuid.uuid4().hex}
    return Call(call.method, call.path, query=call.query, content=call.content, headers=headers)


def send_json(method: str, path: str, body: Mapping[str, Any], *, is_repeatable: bool = True) -> Call:
    """A call with this JSON body."""
    content = dump(body)
    return Call(
        method,
        path,
        content=content,
        headers={"content-type": "application/json"},
        is_repeatable=is_repeatable,
    )


def left_in(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def path_of(*segments: str) -> str:
    """A path of these segments, of which none can lead elsewhere whatever it holds.

    Raises:
        ValueError: a segment is empty, `.` or `..`: no id is.
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is not an id.")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def is_url(text: str) -> bool:
    """Whether a text names something by its scheme; else it is the path of a local file."""
    return _URL.fullmatch(text) is not None


def read_json(content: bytes) -> Any:
    """The value in a body.

    Raises:
        ValueError: it is no JSON.
    """
    return orjson.loads(content)
