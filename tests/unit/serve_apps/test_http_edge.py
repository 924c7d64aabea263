"""What stands around Serve's HTTP servers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from ray.serve._private.http_util import (
    _apply_middlewares,
    parse_disconnect_disabled_header,
    start_asgi_http_server,
)
from ray.serve.config import HTTPOptions
from uvicorn.protocols.http import auto

from fyretoolkit.api.callbacks import PredictProtocol
from serve_apps import http_edge
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


async def _answered(method: str, path: str) -> tuple[str, int, bytes]:
    """Who answered a request: the predict endpoint or what is inside of the middleware, its status and body."""
    sent: list[Any] = []
    who: list[str] = []

    def app(name: str) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            who.append(name)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return answer

    async def send(message: Any) -> None:
        sent.append(message)

    http_edge.answer_predictions(app("predictions"))
    wrapped: Any = _apply_middlewares(app("serve"), middlewares())  # type: ignore[arg-type]
    scope = {"type": "http", "method": method, "path": path, "headers": [], "asgi": {"version": "3.0"}}
    await wrapped(scope, None, send)
    return (who or ["nobody"])[0], sent[0]["status"], sent[1]["body"]


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process of its own."""
    monkeypatch.setattr(http_edge, "_endpoint", None)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("POST", "/predict/m", "predictions"),
        ("POST", "/predict/No such Model", "predictions"),
        ("GET", "/predict/m", "serve"),
        ("POST", "/predict/", "serve"),
        ("POST", "/predict/m/more", "serve"),
        ("POST", "/predictions/m", "serve"),
        ("POST", "/batch/m", "serve"),
    ],
)
async def test_predictions_do_not_reach_serve(method: str, path: str, who: str) -> None:
    """Nothing else is taken from it."""
    assert (await _answered(method, path))[:2] == (who, 200)


async def test_the_server_that_serve_starts_takes_the_short_cut() -> None:
    """Its protocol is the one that begins predictions in its callbacks."""
    endpoint: Any = object()
    http_edge.answer_predictions(endpoint)
    serving, server = await start_asgi_http_server(
        endpoint, HTTPOptions(host="127.0.0.1", port=0), event_loop=asyncio.get_running_loop()
    )
    async with asyncio.timeout(60):
        while not server.started:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    protocol = server.config.http_protocol_class
    assert issubclass(protocol, PredictProtocol)
    assert protocol.endpoint is endpoint


@dataclass(frozen=True)
class _Context:
    app_name: str


@pytest.mark.parametrize("path", ["/", "/predict/m", "/-/healthz", "/healthz"])
async def test_nobody_goes_around_the_ingress(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve opens an HTTP server in each model replica: it refuses everything, in the envelope."""
    context = _Context("dep_01J9Z3V8QW6D3T9F5Y3C7X1B2A")
    monkeypatch.setattr(http_edge, "_get_internal_replica_context", lambda: context)
    monkeypatch.setattr(http_edge, "answer_predictions", lambda _: None)  # no model replica calls it
    who, status, body = await _answered("POST", path)
    assert (who, status) == ("nobody", 404)
    assert json.loads(body)["error"]["code"] == "not_found"


async def test_the_ingress_is_no_model_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_edge, "_get_internal_replica_context", lambda: _Context("ingress"))
    assert (await _answered("GET", "/healthz"))[:2] == ("serve", 200)
