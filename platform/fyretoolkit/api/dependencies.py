"""What the routes ask FastAPI for. Order matters: who is calling is settled before a body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.types import Scope as AsgiScope

from fyretoolkit.api.auth import Keyring, authenticate, require
from fyretoolkit.api.edge import exchange_of
from fyretoolkit.api.requests import check_json, read_body
from fyretoolkit.api.services import Services
from fyretoolkit.core.organizations import Principal, Scope
from fyretoolkit.schemas.errors import parse_request

M = TypeVar("M", bound=BaseModel)


async def admit(scope: AsgiScope, keyring: Keyring, needed: Scope) -> Principal:
    """The principal of a request, if it may do what it asks for.

    Raises:
        PlatformError: `invalid_api_key`, `insufficient_scope`, `unavailable`.
    """
    principal = await authenticate(scope["headers"], keyring)
    exchange_of(scope).principal = principal
    require(principal, needed)
    return principal


async def services_of(request: Request) -> Services:
    """The parts that the app was created with."""
    services: Services = request.app.state.services
    return services


def _admitting(needed: Scope) -> Callable[[Request], Awaitable[Principal]]:
    async def admitted(request: Request) -> Principal:
        services = await services_of(request)
        return await admit(request.scope, services.keys, needed)

    return admitted


def json_body(request_type: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads a JSON body as `request_type`, by the same functions as the predict path."""

    async def body(request: Request) -> M:
        services = await services_of(request)
        check_json(request.scope["headers"])
        content = await read_body(request.scope, request.receive, services.settings.limits.max_body_bytes)
        return parse_request(content, request_type)

    return body


Parts = Annotated[Services, Depends(services_of)]
Reader = Annotated[Principal, Depends(_admitting(Scope.READ))]
Writer = Annotated[Principal, Depends(_admitting(Scope.WRITE))]
