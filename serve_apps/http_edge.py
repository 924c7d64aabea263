"""The middleware that Serve puts around every HTTP server it opens: ingress, model replicas, fallback proxy.

Serve's own wrapper reads client headers (timeouts, request ids) before any application sees them, and appends a second
X-Request-Id. The API's edge therefore stands outside of it too. Serve finds `middlewares` through
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fyretoolkit.api.edge import Edge
from fyretoolkit.core.files import UPLOAD_PATH

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


def middlewares() -> list[Middleware]:
    """What Serve wraps its HTTP servers in, the outermost last."""
    return [Middleware(Unqueued), Middleware(Edge)]
