"""The failures of each operation in the OpenAPI document: its own codes, and those of every operation of its kind.

Each status shows one example of each code that this very operation may answer with. Equal answers are one component,
named by its codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fyretoolkit.api.openapi import CODES, component
from fyretoolkit.core.errors import CATALOGUE

LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_REQUEST_ID = "req_01M82FNH8T16KXP5GBAY415KX0"
_EVERY = (
    "invalid_request",
    "host_not_allowed",
    "request_timeout",
    "headers_too_large",
    "internal_error",
    "bad_gateway",
    "unavailable",
    "deadline_exceeded",
)
"""What any request may meet: one that is no HTTP, a proxy in front, a part that is away."""
_GUARDED = ("invalid_api_key", "insufficient_scope", "rate_limit_exceeded")
"""What any request with a key may meet."""
_BODY = ("payload_too_large", "unsupported_media_type")
_JSON_BODY = ("malformed_json",)
_LIST = ("invalid_cursor",)
_BEFORE_THE_KEY = frozenset((401, 408, 431, 502))
"""Answered before a key is known, so without its limits."""
_MORE_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_DETAILS = {"invalid_request": {"fields": [{"path": "limit", "message": "write a whole number in digits."}]}}


def is_free(operation: dict[str, Any]) -> bool:
    """Whether it needs no key."""
    return "security" in operation and not operation["security"]


def complete_failures(operation: dict[str, Any], responses: dict[str, Any]) -> None:
    """Puts every failure of the operation into it, in place; what they refer to is added to `responses`."""
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):  # FastAPI's own; ours are 400
        del answers["422"]
    codes = [*_shared_codes(operation)]
    for status in [status for status in answers if int(status) >= 400]:
        codes += answers.pop(status)[CODES]
    for status in sorted({CATALOGUE[code].status for code in codes}):
        own = [code for code in dict.fromkeys(codes) if CATALOGUE[code].status == status]
        name = "".join(code.title().replace("_", "") for code in own)
        is_counted = status not in _BEFORE_THE_KEY
        if is_counted and is_free(operation):
            name, is_counted = f"{name}Uncounted", False
        responses[name] = _failure(status, own, is_counted=is_counted)
        answers[str(status)] = component("responses", name)


def _shared_codes(operation: dict[str, Any]) -> Iterator[str]:
    yield from _EVERY
    if not is_free(operation):
        yield from _GUARDED
    if "requestBody" in operation:
        yield from _BODY
        if "application/json" in operation["requestBody"]["content"]:
            yield from _JSON_BODY
    if any(parameter.get("name") == "starting_after" for parameter in operation.get("parameters", ())):
        yield from _LIST


def _failure(status: int, codes: Sequence[str], *, is_counted: bool) -> dict[str, Any]:
    names = ("X-Request-Id", *(LIMIT_HEADERS if is_counted else ()), *_MORE_HEADERS.get(status, ()))
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: component("headers", name) for name in names},
        "content": {
            "application/json": {
                "schema": component("schemas", "ErrorEnvelope"),
                "examples": {code: {"value": _envelope(code)} for code in codes},
            }
        },
    }


def _envelope(code: str) -> dict[str, Any]:
    kind = CATALOGUE[code]
    error: dict[str, Any] = {
        "code": code,
        "message": f"{kind.meaning} {kind.next_step}",
        "request_id": _REQUEST_ID,
    }
    if code in _DETAILS:
        error["details"] = _DETAILS[code]
    return {"error": error}
