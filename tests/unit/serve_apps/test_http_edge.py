"""What stands around Serve's HTTP servers."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.http_util import _apply_middlewares, parse_disconnect_disabled_header

from serve_apps.http_edge import middlewares

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


async def _does_serve_read_ahead(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """What Serve's own reading of the headers that reach it says."""
    seen: list[bool] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        seen.append(parse_disconnect_disabled_header(dict(scope["headers"])))

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "asgi": {"version": "3.0"}}
    app: Any = _apply_middlewares(serve, middlewares())  # type: ignore[arg-type]
    await app(scope, None, None)
    return not seen[0]


async def test_uploads_alone_are_not_read_ahead() -> None:
    """An upload comes at the disk's pace; of everything else Serve notices a client that goes away."""
    assert not await _does_serve_read_ahead("POST", "/files", [])
    for method, path in (
        ("GET", "/files"),
        ("POST", "/files/x"),
        ("POST", "/predict/m"),
        ("POST", "/batch/m"),
    ):
        assert await _does_serve_read_ahead(method, path, [])


async def test_callers_do_not_decide() -> None:
    """The header that they send is dropped."""
    assert await _does_serve_read_ahead("POST", "/predict/m", [(b"x-request-disconnect-disabled", b"?1")])
    assert not await _does_serve_read_ahead("POST", "/files", [(b"x-request-disconnect-disabled", b"?0")])
