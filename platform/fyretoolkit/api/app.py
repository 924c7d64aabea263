"""The FastAPI app: routes, the predict path beside them, the edge around all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from fyretoolkit.api import docs, guides, playground
from fyretoolkit.api.document import describe
from fyretoolkit.api.edge import Edge, exchange_of
from fyretoolkit.api.predict import PredictEndpoint
from fyretoolkit.api.queries import invalid_query, query_names
from fyretoolkit.api.responses import error_headers, framework_error
from fyretoolkit.api.routes import (
    api_keys,
    deliveries,
    deployments,
    files,
    health,
    jobs,
    metrics,
    models,
    nodes,
    organizations,
)
from fyretoolkit.api.services import Services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import render_error

API_VERSION = "1.0.0"
_HELD_CONNECTIONS = 8
_CANCEL_AGAIN_S = 0.1
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def create_app(services: Services) -> FastAPI:
    """The whole API. Its lifespan keeps routes, keys and leases fresh and ends the connection to Redis."""
    app = FastAPI(
        title="FyreToolkit",
        version=API_VERSION,
        summary="Deploy ONNX models, predict in real time, run them over files.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
    )
    app.state.services = services
    for router in _routers():
        app.include_router(router)
    app.state.predict = PredictEndpoint(services)
    app.router.routes.append(Route("/predict/{model_id}", app.state.predict, methods=["POST"]))
    app.add_exception_handler(HTTPException, _render_http_exception)
    app.add_exception_handler(RequestValidationError, _render_invalid_query)
    app.add_middleware(Edge, is_local=services.settings.is_development)
    app.openapi = _described_once(app)  # type: ignore[method-assign]
    return app


@cache
def _routers() -> tuple[APIRouter, ...]:
    """Each with its HEADs after it; once a process, for taking signatures apart is most of what an app takes."""
    resources = (
        models,
        deployments,
        jobs,
        deliveries,
        files,
        api_keys,
        organizations,
        nodes,
        health,
        metrics,
    )
    parts = (*resources, guides, docs, playground)
    return tuple(each for part in parts for each in (part.router, _heads_of(part.router)))


def _heads_of(router: APIRouter) -> APIRouter:
    """A HEAD beside every GET (RFC 9110, 9.1), left out of the description; the edge drops the bodies."""
    heads = APIRouter()
    for route in router.routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            heads.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
    return heads


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.store.hold(_HELD_CONNECTIONS)
    watching = [
        asyncio.create_task(services.routes.watch()),
        asyncio.create_task(services.keys.watch(services.store)),
        asyncio.create_task(services.recorder.keep_flushing()),
        asyncio.create_task(services.limits.leases.run()),
    ]
    try:
        yield
    finally:
        await asyncio.gather(*map(_end, watching))
        await app.state.predict.drain()
        await services.coalescers.close()
        await services.keys.close()
        await services.recorder.close()
        await services.limits.leases.close()
        await services.store.close()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it has ended: redis-py swallows a cancellation that comes while it connects."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)


def _described_once(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or describe(app)
        return app.openapi_schema

    return openapi


async def _render_http_exception(request: Request, error: Exception) -> Response:
    """The router's own refusals: unknown paths and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the type it is registered for
    failure = framework_error(error.status_code)
    headers = {"Allow": ", ".join(_allowed_methods(request))} if failure.status == 405 else {}
    return _envelope(request, failure, headers)


async def _render_invalid_query(request: Request, error: Exception) -> Response:
    """Path and query parameters that do not fit."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the type it is registered for
    errors = [{**each, "loc": each["loc"][1:]} for each in error.errors()]  # without "query" or "path"
    return _envelope(request, invalid_query(errors, query_names(request)))


def _allowed_methods(request: Request) -> list[str]:
    """Every method of the path: the router itself names those of one route alone."""

    def is_routed(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if is_routed(method)]


def _envelope(request: Request, error: PlatformError, headers: dict[str, str] | None = None) -> Response:
    body = render_error(error, exchange_of(request.scope).request_id)
    response = Response(body, error.status, headers, media_type="application/json")
    response.raw_headers.extend(error_headers(error))
    return response
