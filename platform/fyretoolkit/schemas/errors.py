"""The error envelope, and how a body that does not fit becomes one.

Every non-2xx answer has this one shape, so a client needs one branch for failure. The rejected alternative, RFC 9457
problem details, names the fields otherwise than the specification does.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.wire import Resource, sometimes

_SHOWN_FIELDS = 50
_NAMED_FIELDS = 3
_MAX_NAME_CHARS = 100
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "missing": "This {noun} is required. Add it.",
        "list_type": "Send an array.",
        "string_type": "Send a string.",
        "int_type": "Send a whole number.",
        "int_from_float": "Send a whole number.",
        "int_parsing": "Send a whole number.",
        "float_type": "Send a number.",
        "finite_number": "Send a finite number.",
        "bool_type": "Send true or false.",
        "dict_type": "Send an object.",
        "model_type": "Send an object.",
        "model_attributes_type": "Send an object.",
        "too_short": "Send an array of at least {min_length} item{s}.",
        "too_long": "Send an array of at most {max_length} item{s}.",
        "string_too_short": "Send at least {min_length} character{s}.",
        "string_too_long": "Send at most {max_length} character{s}.",
        "greater_than": "Send a number greater than {gt}.",
        "greater_than_equal": "Send a number of at least {ge}.",
        "less_than": "Send a number less than {lt}.",
        "less_than_equal": "Send a number of at most {le}.",
        "literal_error": "Send {expected}.",
        "enum": "Send {expected}.",
    }
)
"""What to do, by pydantic's type of error: its own messages name Python's types and say only what is wrong."""

M = TypeVar("M", bound=BaseModel)


class FieldError(Resource):
    """One field that does not fit."""

    path: str
    message: str


class ErrorBody(Resource):
    """What went wrong; `request_id` equals the X-Request-Id header."""

    model_config = ConfigDict(json_schema_extra=sometimes("details"))

    code: str
    """Stable; one of the table of error codes."""
    message: str
    """What is wrong with this request, and what to do next."""
    request_id: str
    """For the operator: it is in the log."""
    details: dict[str, JsonValue] | None = None
    """More for programs, by code; left out without any."""


class ErrorEnvelope(Resource):
    """The body of every answer that is not 2xx."""

    error: ErrorBody
    """What went wrong."""


class ItemErrorBody(Resource):
    """Why one item of a prediction has no result (`on_error: continue`)."""

    code: str
    """A stable error code."""
    message: str
    """What is wrong with the item, by its path."""


def render_error(error: PlatformError, request_id: str) -> bytes:
    """The envelope's bytes."""
    body: dict[str, object] = {"code": error.code, "message": error.message, "request_id": request_id}
    if error.details:
        body["details"] = error.details
    return orjson.dumps({"error": body})


def parse_request(body: bytes, request_type: type[M]) -> M:
    """The request in a JSON body.

    Raises:
        PlatformError: `malformed_json` with the position, `invalid_request` with `details.fields`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = "The body is empty" if not body.strip() else f"The body is not valid JSON: {error}"
        raise PlatformError("malformed_json", f"{where}. Send a JSON object.") from error
    if not isinstance(value, dict):
        raise PlatformError("invalid_request", 'The body must be a JSON object, such as {"name": "value"}.')
    try:
        return request_type.model_validate(value)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False), tuple(request_type.model_fields)) from error


def invalid_request(
    errors: Sequence[Mapping[str, Any]], known: Sequence[str] = (), *, noun: str = "field"
) -> PlatformError:
    """Pydantic's errors as one 400 that names each field; `known` are the fields of the outermost object.

    `noun`: what the caller knows a field as.
    """
    fields = [
        FieldError(path=_path(error["loc"]), message=_message(error, known, noun))
        for error in errors[:_SHOWN_FIELDS]
    ]
    named = " ".join(f"{field.path}: {field.message}" for field in fields[:_NAMED_FIELDS])
    more = len(errors) - _NAMED_FIELDS
    return invalid_fields(named + (f" And {more} more, see details.fields." if more > 0 else ""), fields)


def invalid_field(path: str, message: str) -> PlatformError:
    """A 400 about one field."""
    return invalid_fields(f"{path}: {message}", [FieldError(path=path, message=message)])


def about_field(path: str, error: PlatformError) -> PlatformError:
    """The same error, saying which field it is about; its other details stay."""
    field = FieldError(path=path, message=error.message)
    details = {**(error.details or {}), "fields": [field.model_dump()]}
    return PlatformError(
        error.code, f"{path}: {error.message}", details=details, retry_after_s=error.retry_after_s
    )


def invalid_fields(message: str, fields: Sequence[FieldError]) -> PlatformError:
    """A 400 with `details.fields`."""
    return PlatformError(
        "invalid_request", message, details={"fields": [field.model_dump() for field in fields]}
    )


def _message(error: Mapping[str, Any], known: Sequence[str], noun: str) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(error["loc"], known, noun)
    if kind not in _ADVICE:
        text = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
        return f"{text[:1].upper()}{text[1:]}."
    context = error.get("ctx", {})
    bound = context.get("min_length", context.get("max_length"))
    return _ADVICE[kind].format(**{**context, "noun": noun, "s": "" if bound == 1 else "s"})


def _unknown(location: tuple[str | int, ...], known: Sequence[str], noun: str) -> str:
    is_nested = len(location) > 1
    if not known or is_nested:
        return f"Unknown {noun}. Remove it."
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    advice = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
    return f"Unknown {noun}. {advice}"


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = part[:_MAX_NAME_CHARS]
            path += f".{name}" if path else name
    return path or "body"
