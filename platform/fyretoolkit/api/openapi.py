"""What a route says of itself to the OpenAPI document, beyond what FastAPI reads off its signature.

Routes name the statuses that are theirs alone; what every operation of a kind has in common (authentication, limits,
bodies, proxies) is added once in `api/document.py`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]

_REF = "#/components/{kind}/{name}"


def component(kind: str, name: str) -> dict[str, Any]:
    """A reference into the document's components."""
    return {"$ref": _REF.format(kind=kind, name=name)}


def failures(*statuses: int) -> Responses:
    """The error answers of an operation, beside those that every operation of its kind has."""
    return {status: {"description": "A failure."} for status in statuses}


def creation_headers(status: int) -> Responses:
    """The headers of a creation that an idempotency key makes repeatable."""
    headers = {name: component("headers", name) for name in ("Location", "Idempotent-Replayed")}
    return {status: {"headers": headers}}


def download(*headers: str) -> Responses:
    """A file, whole or in part; `headers` are those of it that not every download has."""
    own = {name: component("headers", name) for name in headers}
    content = {
        kind: {"schema": {"type": "string"}}
        for kind in ("application/jsonl", "text/csv", "application/octet-stream")
    }
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
