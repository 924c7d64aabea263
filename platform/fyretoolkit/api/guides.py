"""`/docs/guides`: the guides as pages, rendered from the markdown files that lie in the package.

A page has no script, so its policy permits none, and nothing of others. A documentation site built elsewhere was
rejected: it would describe another version than the one that serves it.
"""

from __future__ import annotations

from functools import cache, partial
from html import escape
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from fyretoolkit.api.markdown_pages import is_relative, links, render
from fyretoolkit.core.errors import PlatformError

FOLDER = Path(__file__).parents[1] / "guides"
INDEX = FOLDER / "README.md"
_AT = "/docs/guides"
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {".css": "text/css", ".py": "text/plain"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · FyreToolkit</title>
<link rel="icon" href="/playground/flame.svg" type="image/svg+xml">
<link rel="stylesheet" href="/playground/styles/tokens.css">
<link rel="stylesheet" href="/docs/guides/guides.css">
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<a class="brand" href="/"><img src="/playground/flame.svg" alt="" width="22" height="22">FyreToolkit</a>
<nav aria-label="Views">
<a href="/docs/guides" aria-current="true">Guides</a><a href="/docs">API reference</a><a href="/">Playground</a>
</nav>
</header>
<div class="frame">
<nav class="guides" aria-label="Guides">
<ul>
{guides}
</ul>
</nav>
<main id="content" tabindex="-1">
{content}</main>
</div>
</body>
</html>
"""


def _named() -> dict[str, tuple[str, Path]]:
    """Title and file of each page by its name, in the order of the index, which alone says what is a guide."""
    found = {}
    for title, href in links(INDEX.read_text("utf-8")):
        if is_relative(href):
            path = (FOLDER / href).resolve()
            name = path.parent.name if path.stem == "README" else path.stem
            found[name.lower()] = (title, path)
    return found


PAGES = _named()
_ASSETS = {
    path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*")) if path.suffix in _TYPES
}
"""The other files that are served, by name: what a path says is looked up, never joined to a folder."""

router = APIRouter(include_in_schema=False)


@router.get(_AT)
def index() -> Response:
    """The list of the guides."""
    return HTMLResponse(_page(INDEX), headers=_HEADERS)


@router.get(f"{_AT}/{{name:path}}")
def guide(name: str) -> Response:
    """One of them, or a file beside them."""
    if name in PAGES:
        return HTMLResponse(_page(PAGES[name][1]), headers=_HEADERS)
    path = _ASSETS.get(name)
    if path is None:
        raise PlatformError("not_found")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_HEADERS)


@cache
def _page(path: Path) -> str:
    title = next((title for title, each in PAGES.values() if each == path), "Guides")
    content = render(path.read_text("utf-8"), partial(_address, path.parent))
    return _PAGE.format(title=escape(title), guides="\n".join(_entries(path)), content=content)


def _entries(shown: Path) -> list[str]:
    current = ' aria-current="page"'
    return [
        f'<li><a href="{_AT}/{name}"{current if path == shown else ""}>{escape(title)}</a></li>'
        for name, (title, path) in PAGES.items()
    ]


def _address(folder: Path, href: str) -> str:
    """Where the file that a page names is served; as it is written where it is not, which a test refuses."""
    path = (folder / href).resolve()
    served = {INDEX: _AT, **{each: f"{_AT}/{name}" for name, (_, each) in PAGES.items()}}
    return served.get(path) or next((f"{_AT}/{name}" for name, each in _ASSETS.items() if each == path), href)
