"""`/docs`: the API reference, rendered by Swagger UI from files of this package, so that it works without the internet.

The page may run its own scripts alone and talk to this API alone. The rejected alternative, Scalar, is prettier and
three times the size; FastAPI's own page loads its renderer from a third party.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from fyretoolkit.core.errors import PlatformError

RENDERER = Path(__file__).parent / "vendored" / "swagger-ui"
_ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FyreToolkit API reference</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<nav class="swagger-ui"><div class="wrapper">
<p><a href="/docs/guides">Guides</a> · <a href="/">Playground</a></p>
</div></nav>
<div id="reference"><noscript>The same as JSON: <a href="/openapi.json">/openapi.json</a></noscript></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# Keys stay in the page's memory, and no cookie is sent.
_START = """window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#reference",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false,
    validatorUrl: null,
    requestInterceptor: (request) => ({ ...request, credentials: "omit" }),
  });
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> Response:
    """The page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/start.js")
async def start() -> Response:
    """What starts the renderer."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get("/docs/{asset}")
async def asset(asset: str) -> Response:
    """One of its files."""
    if asset not in _ASSETS:
        raise PlatformError("not_found")
    return FileResponse(
        RENDERER / asset,
        media_type=_ASSETS[asset],
        headers={**_HEADERS, "Cache-Control": "public, max-age=3600"},
    )
