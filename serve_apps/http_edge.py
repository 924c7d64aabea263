"""The middleware that Serve puts around every HTTP server it opens: ingress, model replicas, fallback proxy.

Serve's own wrapper reads client headers (timeouts, request ids) before any application sees them, and appends a second
X-Request-Id. The API's edge therefore stands outside of it too. Serve finds `middlewares` through
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

from starlette.middleware import Middleware

from fyretoolkit.api.edge import Edge


def middlewares() -> list[Middleware]:
    """What Serve wraps its HTTP servers in."""
    return [Middleware(Edge)]
