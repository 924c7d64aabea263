"""Query strings: which parameters an operation takes, and that none of them comes twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import invalid_request

Q = TypeVar("Q", bound=BaseModel)


def query_names(request: Request) -> tuple[str, ...]:
    """The parameters that the operation takes; those that it reads with `parse_query` are not among them."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return ()
    types = [parameter.field_info.annotation for parameter in route.dependant.query_params]
    return tuple(
        name
        for each in types
        if isinstance(each, type) and issubclass(each, BaseModel)
        for name in each.model_fields
    )


def check_single(request: Request) -> None:
    """Refuses a query with a parameter twice: readers differ on which of them counts.

    Raises:
        PlatformError: `invalid_request`.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    errors = [
        {"type": "repeated", "loc": (name,), "msg": "Send this parameter once"}
        for name, count in counts.items()
        if count > 1
    ]
    if errors:
        raise invalid_query(errors, ())


def parse_query(request: Request, query_type: type[Q]) -> Q:
    """The query, for an operation that must know the caller before it reads it.

    Raises:
        PlatformError: `invalid_request`.
    """
    check_single(request)
    try:
        return query_type.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise invalid_query(error.errors(include_url=False), tuple(query_type.model_fields)) from error


def invalid_query(errors: Sequence[Mapping[str, Any]], known: Sequence[str]) -> PlatformError:
    """The 400 that names each parameter that does not fit."""
    return invalid_request(errors, known, noun="parameter")
