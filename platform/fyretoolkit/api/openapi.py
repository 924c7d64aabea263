"""What a route says of itself to the OpenAPI document, beyond what FastAPI reads off its signature.

Routes name the failures that are theirs alone; what every operation of a kind has in common (authentication, limits,
bodies, cursors, proxies) is added once in `api/failures.py`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from fyretoolkit.core.errors import CATALOGUE

Responses = dict[int | str, dict[str, Any]]

CODES = "x-codes"
"""Where a response holds its error codes until the document is complete."""
_REF = "#/components/{kind}/{name}"


def component(kind: str, name: str) -> dict[str, Any]:
    """A reference into the document's components."""
    return {"$ref": _REF.format(kind=kind, name=name)}


def failures(*codes: str) -> Responses:
    """The error answers of an operation by their codes, beside those that every operation of its kind has."""
    found: Responses = {}
    for code in codes:
        answer = found.setdefault(CATALOGUE[code].status, {"description": "A failure.", CODES: []})
        answer[CODES].append(code)
    return found


def creation_headers(status: int) -> Responses:
    """The headers of a creation that an idempotency key makes repeatable."""
    return {status: {"headers": {"Location": component("headers", "Location"), **_replay_header()}}}


def replay_header(status: int) -> Responses:
    """The header of any other call that an idempotency key makes repeatable."""
    return {status: {"headers": _replay_header()}}


def _replay_header() -> dict[str, Any]:
    return {"Idempotent-Replayed": component("headers", "Idempotent-Replayed")}


def download(*media_types: str, headers: tuple[str, ...] = ()) -> Responses:
    """A file of one of these types, whole or in part; `headers` are those of it that not every download has."""
    names = ("Accept-Ranges", "Content-Disposition", *headers)
    own = {name: component("headers", name) for name in names}
    content = {kind: {"schema": {"type": "string"}} for kind in media_types}
    return {
        200: {"description": "The file.", "content": content, "headers": own},
        206: {
            "description": "The range asked for.",
            "content": content,
            "headers": {"Content-Range": component("headers", "Content-Range"), **own},
        },
    }


def request_body(body: type[BaseModel], *, is_optional: bool = False) -> dict[str, Any]:
    """The body of an operation that reads it itself; its schema is added to the components by name."""
    schema = component("schemas", body.__name__)
    BODIES[body.__name__] = body
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": not is_optional, "content": content}}


BODIES: dict[str, type[BaseModel]] = {}
"""Request bodies that routes have named, by the name of their schema."""
