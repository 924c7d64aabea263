"""The predict endpoint under a real HTTP server: what Serve's own wrapper of a request would do elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial

import httpx
import numpy as np
import pytest
import uvicorn

from fyretoolkit.api.predict import PredictEndpoint
from fyretoolkit.serving.replica import Load, ReplicaAnswer
from fyretoolkit.settings import DEMO_KEY, ServingSettings, Settings
from tests.support.api_bench import Bench, InProcessCall, open_bench
from tests.support.predict_server import serving

pytestmark = pytest.mark.anyio

BODY = json.dumps({"inputs": ["good"]}).encode()


class Held:
    """Calls that wait until `let_go` is set."""

    def __init__(self, run: object) -> None:
        self._run = run
        self.let_go = asyncio.Event()
        self.called = asyncio.Event()
        self.rows: list[int] = []

    def bound(self) -> object:
        """The method that stands in for `InProcessCall.__call__`."""

        async def call(
            own: InProcessCall,
            application: str,
            arrays: Mapping[str, np.ndarray],
            timeout_s: float,
            load: Load,
        ) -> ReplicaAnswer:
            self.rows.append(len(next(iter(arrays.values()))))
            self.called.set()
            await self.let_go.wait()
            answer: ReplicaAnswer = await self._run(own, application, arrays, timeout_s, load)  # type: ignore[operator]
            return answer

        return call


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Replicas that answer when they are let to."""
    made = Held(InProcessCall.__call__)
    monkeypatch.setattr(InProcessCall, "__call__", made.bound())
    return made


Serve = Callable[[PredictEndpoint], AbstractAsyncContextManager[tuple[int, uvicorn.Server]]]


@pytest.fixture(params=["in tasks", "in callbacks"])
def served(request: pytest.FixtureRequest) -> Serve:
    """A uvicorn that serves an endpoint alone, and its port: as any ASGI app, and by the short cut of its protocol."""
    return partial(serving, has_short_cut=request.param == "in callbacks")


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", auth=(DEMO_KEY, ""), timeout=20, trust_env=False
    )


async def reached(check: Callable[[], bool]) -> None:
    """Until it is so."""
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - what is looked at announces nothing
            await asyncio.sleep(0.01)


async def filled(http: httpx.AsyncClient, held: Held) -> list[asyncio.Task[httpx.Response]]:
    """Both calls that one replica may have in flight, held."""
    tasks = []
    for calls in (1, 2):
        tasks.append(asyncio.create_task(predict(http)))
        await reached(lambda calls=calls: len(held.rows) == calls)  # type: ignore[misc]
    return tasks


async def predict(http: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await http.post("/predict/sentiment-v1", json={"inputs": ["good"], **fields})


async def test_requests_of_many_connections_travel_together(bench: Bench, held: Held, served: Serve) -> None:
    await bench.deploy("sentiment-v1")
    async with served(PredictEndpoint(bench.services)) as (port, _), client(port) as http:
        first = await filled(http, held)
        more = [asyncio.create_task(predict(http)) for _ in range(10)]
        await reached(lambda: bench.services.coalescers.waiting == 10)
        held.let_go.set()
        answers = [await task for task in first + more]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 12
    assert held.rows == [1, 1, 10]
    assert {answer.json()["usage"]["batch_size"] for answer in answers[2:]} == {10}


async def test_a_client_that_hangs_up_while_it_waits_is_not_run(
    bench: Bench, held: Held, served: Serve
) -> None:
    """Its place goes to others. Nothing is answered, and nothing is counted as a failure."""
    deployment = await bench.deploy("sentiment-v1")
    async with served(PredictEndpoint(bench.services)) as (port, server), client(port) as http:
        kept = await filled(http, held)
        kept.append(asyncio.create_task(predict(http)))
        await reached(lambda: bench.services.coalescers.waiting == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_raw_request())
        await writer.drain()
        await reached(lambda: bench.services.coalescers.waiting == 2)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        await reached(lambda: len(server.server_state.connections) == len(kept))
        held.let_go.set()
        assert {(await task).status_code for task in kept} == {200}
        await bench.services.recorder.flush()
    metrics = (await bench.request("GET", f"/metrics/{deployment.id}?period=5m")).json()["metrics"]
    assert sum(held.rows) == 3
    assert metrics["errors"]["by_code"] == {}


async def test_bodies_that_are_held_have_a_bound(settings: Settings, held: Held, served: Serve) -> None:
    """The next one is refused, and welcome once there is room again."""
    small = settings.model_copy(update={"serving": ServingSettings(max_body_bytes_held=4 * len(BODY))})
    async with open_bench(small) as bench:
        await bench.deploy("sentiment-v1")
        async with served(PredictEndpoint(bench.services)) as (port, _), client(port) as http:
            tasks = [asyncio.create_task(_post(http)) for _ in range(2)]
            await held.called.wait()
            await reached(lambda: bench.services.coalescers.waiting + sum(held.rows) == 2)
            refused = await _post(http)
            held.let_go.set()
            assert {(await task).status_code for task in tasks} == {200}
            assert (await _post(http)).status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1


async def test_what_is_under_way_ends_before_the_app_does(bench: Bench, held: Held, served: Serve) -> None:
    await bench.deploy("sentiment-v1")
    endpoint = PredictEndpoint(bench.services)
    async with served(endpoint) as (port, _), client(port) as http:
        task = asyncio.create_task(predict(http))
        await held.called.wait()
        draining = asyncio.create_task(endpoint.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        held.let_go.set()
        assert (await task).status_code == 200
        await asyncio.wait_for(draining, 30)


async def _post(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post(
        "/predict/sentiment-v1", content=BODY, headers={"content-type": "application/json"}
    )


def _raw_request() -> bytes:
    token = httpx.BasicAuth(DEMO_KEY, "")._auth_header.encode()
    return (
        b"POST /predict/sentiment-v1 HTTP/1.1\r\nhost: localhost\r\nauthorization: %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (token, len(BODY), BODY)
    )
