"""Answers read as resources. Fields that this client does not know are passed over at any depth: servers get newer."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from fyretoolkit.client.calls import read_json
from fyretoolkit.client.errors import UnexpectedResponseError
from fyretoolkit.schemas.wire import Resource

R = TypeVar("R", bound=Resource)

_NOT_OURS = (
    "What answered is not FyreToolkit, or a newer one than this client knows. "
    "Check the base URL, or update fyretoolkit."
)


def read_resource(kind: type[R], content: bytes, *, context: object = None) -> R:
    """The resource in a body. `context` is what its own methods call through.

    Raises:
        UnexpectedResponseError: it is another one.
    """
    try:
        return kind.model_validate_json(content, extra="ignore", context=context)
    except ValidationError as error:
        raise UnexpectedResponseError(f"{_NOT_OURS} ({_first(error)})") from error


def read_page(kind: type[R], content: bytes, *, context: object = None) -> tuple[list[R], bool]:
    """The resources of a page, and whether there are older ones.

    Raises:
        UnexpectedResponseError: it is another one.
    """
    try:
        page = read_json(content)
        found = [kind.model_validate(each, extra="ignore", context=context) for each in page["data"]]
        return found, page["has_more"] is True
    except ValidationError as error:
        raise UnexpectedResponseError(f"{_NOT_OURS} ({_first(error)})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnexpectedResponseError(_NOT_OURS) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
