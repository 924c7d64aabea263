"""The middleware that Serve puts around every HTTP server it opens: ingress, model replicas, fallback proxy.

Predictions are answered here, before Serve's own wrapper of a request, which costs more than all the rest of one
(decisions/0005). Serve's wrapper also reads client headers (timeouts, request ids) before any application sees them,
and appends a second X-Request-Id, so the API's edge stands outside of it too. Serve finds `middlewares` through
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

from ray.serve.context import _get_internal_replica_context
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http import auto

from fyretoolkit.api.callbacks import protocol_of
from fyretoolkit.api.edge import Edge
from fyretoolkit.api.predict import PredictEndpoint, is_prediction
from fyretoolkit.core.deployments import PREFIX
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import UPLOAD_PATH
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.standby import PREFIX as STANDBY_PREFIX

_DISCONNECT_DISABLED = (b"x-request-disconnect-disabled", b"?1")


class Unqueued:
    """Lets an upload arrive at the pace at which it is written to the disk.

    To notice a client that goes away, Serve reads ahead: it takes every message of the body from the server into a
    queue without a bound, so an upload faster than the disk would fill the memory. With this header, which callers may
    not send, it hands the server's own `receive` to the application, which notices by itself.
    Source: ray 2.60, `serve/_private/replica.py`, `_direct_ingress_asgi`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", UPLOAD_PATH):
            scope = {**scope, "headers": [*scope["headers"], _DISCONNECT_DISABLED]}
        await self._app(scope, receive, send)


class NoDetour:
    """Refuses every request that reaches a model replica's own HTTP server: nobody goes around the ingress.

    Serve opens one in each replica of each application, whether it has a route or not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_model_replica():
            raise PlatformError("not_found")
        await self._app(scope, receive, send)


class Predictions:
    """Hands predictions to the endpoint of this process, if it has one: the replicas of the ingress do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _endpoint is not None and is_prediction(scope):
            await _endpoint(scope, receive, send)
        else:
            await self._app(scope, receive, send)


_endpoint: ASGIApp | None = None


def answer_predictions(endpoint: PredictEndpoint) -> None:
    """From now on this process's HTTP server has predictions answered by `endpoint`.

    The plain ones in the callbacks of its protocol (`api.callbacks`), which uvicorn takes from there when it starts.
    """
    global _endpoint  # noqa: PLW0603 - Serve makes the middleware, and gives it nothing of the application
    _endpoint = endpoint
    auto.AutoHTTPProtocol = protocol_of(endpoint)


def middlewares() -> list[Middleware]:
    """What Serve wraps its HTTP servers in, the outermost last."""
    return [Middleware(Unqueued), Middleware(NoDetour), Middleware(Edge), Middleware(Predictions)]


def _is_model_replica() -> bool:
    context = _get_internal_replica_context()
    return context is not None and (
        is_id(context.app_name, PREFIX) or is_id(context.app_name, STANDBY_PREFIX)
    )
