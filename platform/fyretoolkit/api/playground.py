"""`/`: the playground, as hand-written files of this package. What it shows of the API it reads from `/openapi.json`.

Nothing is built and nothing is rendered here, so what is served is what is in the repository; a bundler or a framework
was rejected for that. The page may run its own scripts alone, talk to this API alone, and turn no text into markup.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse, Response

from fyretoolkit.api.dependencies import Parts
from fyretoolkit.core.api_keys import DEMO_KEY
from fyretoolkit.core.errors import PlatformError

FOLDER = Path(__file__).parents[1] / "playground"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = {
    path.relative_to(FOLDER).as_posix(): path
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in _TYPES and path.is_file()
}
"""The files that are served, by name: what a path says is looked up, never joined to a folder."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # A page of one version with modules of another would break: each is asked for again.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The page."""
    return FileResponse(FOLDER / "page.html", media_type="text/html; charset=utf-8", headers=_HEADERS)


@router.get("/playground/start.json")
async def start(services: Parts) -> Response:
    """What the page cannot read from the description: the mode, the demo key where there is one, regions and plans."""
    settings = services.settings
    known = {
        "mode": settings.mode,
        "demo_key": DEMO_KEY if settings.is_development else None,
        "regions": list(settings.regions),
        "window_s": settings.limits.rate_window_s,
        "plans": {name: plan.model_dump() for name, plan in settings.plans.items()},
    }
    return JSONResponse(known, headers=_HEADERS)


@router.get("/playground/{name:path}")
async def asset(name: str) -> Response:
    """One of its files."""
    path = _ASSETS.get(name)
    if path is None:
        raise PlatformError("not_found")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_HEADERS)
