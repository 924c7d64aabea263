"""What the routes ask FastAPI for. Order matters: who is calling is settled before a body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.types import Scope as AsgiScope

from fyretoolkit.api.auth import authenticate, authenticate_at_once, require
from fyretoolkit.api.edge import Exchange, exchange_of
from fyretoolkit.api.limits import category_of
from fyretoolkit.api.queries import check_single, query_names
from fyretoolkit.api.requests import check_json, has_body, read_body
from fyretoolkit.api.services import Services
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.schemas.errors import parse_request
from fyretoolkit.schemas.json_text import check_text

M = TypeVar("M", bound=BaseModel)


async def admit(scope: AsgiScope, services: Services, needed: Scope) -> Principal:
    """The principal of a request, if it may do what it asks for. The request is counted as soon as its key is known.

    Raises:
        PlatformError: `invalid_api_key`, `rate_limit_exceeded`, `insufficient_scope`, `unavailable`.
    """
    exchange = exchange_of(scope)
    principal = await authenticate(exchange.headers_by_name, services.keys, needed)
    exchange.principal = principal
    await services.limits.count(principal, category_of(scope, needed), exchange.headers)
    require(principal, needed)
    return principal


def admit_prediction_at_once(exchange: Exchange, services: Services) -> Principal | None:
    """As `admit` for a prediction, without waiting: None, and it is not counted, if Redis has to be asked first.

    Raises:
        PlatformError: `invalid_api_key`, `rate_limit_exceeded`, `insufficient_scope`.
    """
    principal = authenticate_at_once(exchange.headers_by_name, services.keys, Scope.PREDICT)
    if principal is None:
        return None
    exchange.principal = principal
    if not services.limits.count_prediction_at_once(principal, exchange.headers):
        return None
    require(principal, Scope.PREDICT)
    return principal


async def services_of(request: Request) -> Services:
    """The parts that the app was created with."""
    services: Services = request.app.state.services
    return services


def _admitting(needed: Scope) -> Callable[[Request], Awaitable[Principal]]:
    async def admitted(request: Request) -> Principal:
        services = await services_of(request)
        principal = await admit(request.scope, services, needed)
        if query_names(request):
            check_single(request)
        return principal

    return admitted


def json_body(request_type: type[M], *, is_optional: bool = False) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads a JSON body as `request_type`, as the predict path does and more strictly.

    `is_optional`: a request without a body is one with an empty object.
    """

    async def body(request: Request) -> M:
        services = await services_of(request)
        if is_optional and not has_body(request.scope["headers"]):
            return request_type()
        check_json(request.scope["headers"])
        content = await read_body(request.scope, request.receive, services.settings.limits.max_body_bytes)
        parsed = parse_request(content, request_type)
        check_text(content)
        return parsed

    return body


admit_reader = _admitting(Scope.READ)

Parts = Annotated[Services, Depends(services_of)]
Reader = Annotated[Principal, Depends(admit_reader)]
Writer = Annotated[Principal, Depends(_admitting(Scope.WRITE))]
Admin = Annotated[Principal, Depends(_admitting(Scope.ADMIN))]
Operator = Annotated[Principal, Depends(_admitting(Scope.OPERATOR))]
