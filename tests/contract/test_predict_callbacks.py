"""Predictions answered in the HTTP server's callbacks: what a task would answer, and what only they can do wrong."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvicorn

from fyretoolkit.api.predict import PredictEndpoint
from fyretoolkit.core.organizations import Scope
from fyretoolkit.settings import PlanSettings, Settings
from tests.support.api_bench import Bench, InProcessCall, open_bench
from tests.support.predict_server import Answer, Connection, request, serving

pytestmark = pytest.mark.anyio

GOOD: dict[str, Any] = {"inputs": ["good", "bad"]}
_DIFFERS = re.compile(rb"(req|pred)_[0-9A-Z]{26}|\"(latency|queue|compute)_ms\":[0-9.]+|\"created\":[0-9]+")


class Asgi:
    """Counts the requests that reach the ASGI app: those that the short cut did not take."""

    def __init__(self, endpoint: PredictEndpoint) -> None:
        self._endpoint = endpoint
        self.count = 0

    def begin(self, *arguments: Any, **options: Any) -> bool:
        return self._endpoint.begin(*arguments, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.count += 1
        await self._endpoint(scope, receive, send)


class Served:
    """One endpoint behind two servers, with the short cut and without it."""

    def __init__(self, bench: Bench, ports: tuple[int, int], server: uvicorn.Server, asgi: Asgi) -> None:
        self.bench = bench
        self.ports = ports
        self.server = server
        self.asgi = asgi

    def connect(self) -> Connection:
        """To the server with the short cut."""
        return Connection(self.ports[1])


@pytest.fixture
async def served(bench: Bench) -> AsyncIterator[Served]:
    """With sentiment-v1 and digits deployed, and the demo key remembered."""
    for model in ("sentiment-v1", "digits"):
        await bench.deploy(model)
    endpoint = PredictEndpoint(bench.services)
    asgi = Asgi(endpoint)
    async with AsyncExitStack() as stack:
        plain, _ = await stack.enter_async_context(serving(endpoint, has_short_cut=False))
        short, server = await stack.enter_async_context(serving(asgi, has_short_cut=True))  # type: ignore[arg-type]
        made = Served(bench, (plain, short), server, asgi)
        async with made.connect() as connection:
            assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200
        asgi.count = 0
        yield made


def _shown(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """What must be equal of two answers to one request, the order of the headers too."""
    varying = {"date", "x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset", "content-length"}
    headers = [(name, "" if name in varying else value) for name, value in answer.headers.items()]
    return answer.status, headers, _DIFFERS.sub(b"", answer.content)


REQUESTS = {
    "two inputs": request("sentiment-v1", GOOD),
    "metadata": request("sentiment-v1", {**GOOD, "metadata": {"a": ["é", 1.5, None]}}),
    "options": request("sentiment-v1", {**GOOD, "options": {"timeout_ms": 900, "region": "us-east-1"}}),
    "a request id": request("sentiment-v1", GOOD, b"x-request-id: mine-1"),
    "an ill-formed request id": request("sentiment-v1", GOOD, b"x-request-id: with space"),
    "a tensor": request("digits", {"inputs": [[0.5] * 64]}),
    "a bad input": request("digits", {"inputs": [[0.5] * 64, [1, 2]]}),
    "a bad input beside a good one": request(
        "digits", {"inputs": [[0.5] * 64, [1, 2]], "options": {"on_error": "continue"}}
    ),
    "too many inputs": request("sentiment-v1", {"inputs": ["x"] * 17}),
    "no inputs": request("sentiment-v1", {"inputs": []}),
    "an unknown field": request("sentiment-v1", {**GOOD, "input": 1}),
    "an unknown region": request("sentiment-v1", {**GOOD, "options": {"region": "moon"}}),
    "no JSON": request("sentiment-v1", b"{"),
    "an empty body": request("sentiment-v1", b""),
    "no model": request("nothing-here", GOOD),
    "no slug": request("No.Slug-", GOOD),
    "no JSON type": request("sentiment-v1", GOOD, content_type=b"text/plain"),
    "a compressed body": request("sentiment-v1", GOOD, b"content-encoding: gzip"),
    "an unknown key": request("sentiment-v1", GOOD, key="sk_live_nobody_" + "x" * 43),
    "two keys": request("sentiment-v1", GOOD, b"authorization: Bearer sk_live_demo_12345"),
    "another host": request("sentiment-v1", GOOD).replace(b"host: localhost", b"host: evil.example"),
    "a body too large for one read": request("sentiment-v1", {"inputs": ["x" * 70_000]}),
    "a body over the limit": request("sentiment-v1", {"inputs": ["x" * 120_000]}),
    "the last of a connection": request("sentiment-v1", GOOD, b"connection: close"),
    "an escape in the path": request("sentiment%2Dv1", GOOD),
    "a query": request("sentiment-v1?x=1", GOOD),
    "GET": request("sentiment-v1", b"", method=b"GET"),
    "chunks": request("sentiment-v1", b"")
    .replace(b"content-length: 0", b"transfer-encoding: chunked")
    .replace(b"\r\n\r\n", b'\r\n\r\nd\r\n{"inputs":["a\r\n3\r\n"]}\r\n0\r\n\r\n'),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_answer_is_that_of_a_task(served: Served, name: str) -> None:
    """Status, headers and body, whatever is asked; and the connection goes on to the next, or ends."""
    shown = []
    for port in served.ports:
        async with Connection(port) as connection:
            shown.append(_shown(await connection.ask(REQUESTS[name])))
            if ("connection", "close") in shown[-1][1]:
                assert await connection.is_closed()
            else:
                assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("name", "is_short"),
    [
        ("two inputs", True),
        ("a bad input", True),
        ("no JSON", True),
        ("no model", True),
        ("chunks", True),
        ("an unknown key", False),
        ("a query", False),
        ("an escape in the path", False),
        ("a body too large for one read", False),
        ("GET", False),
    ],
)
async def test_what_takes_the_short_cut(served: Served, name: str, *, is_short: bool) -> None:
    async with served.connect() as connection:
        await connection.ask(REQUESTS[name])
    assert served.asgi.count == (0 if is_short else 1)


async def test_a_request_id_is_echoed_and_an_own_one_is_new(served: Served) -> None:
    async with served.connect() as connection:
        given = await connection.ask(REQUESTS["a request id"])
        own = [await connection.ask(request("sentiment-v1", GOOD)) for _ in range(2)]
    assert given.headers["x-request-id"] == "mine-1"
    assert len({answer.headers["x-request-id"] for answer in own}) == 2


@pytest.mark.parametrize("cut", [1, 40, 150, -1])
async def test_a_request_in_two_pieces_is_one(served: Served, cut: int) -> None:
    """Wherever it is cut, before or after its headers' end."""
    content = request("sentiment-v1", GOOD)
    async with served.connect() as connection:
        connection.writer.write(content[:cut])
        await connection.writer.drain()
        await _until(lambda: any(each.headers is not None for each in served.server.server_state.connections))
        connection.writer.write(content[cut:])
        assert (await connection.answer()).status == 200
        assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200


async def test_requests_sent_together_are_answered_in_order(served: Served) -> None:
    """Predictions and others on one connection, all in one piece."""
    wanted = [
        request("sentiment-v1", GOOD, b"x-request-id: r%d" % number, method=method)
        for number, method in enumerate((b"POST", b"POST", b"GET", b"POST"))
    ]
    async with served.connect() as connection:
        connection.writer.write(b"".join(wanted))
        answers = [await connection.answer() for _ in wanted]
        assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200
    assert [answer.headers["x-request-id"] for answer in answers] == ["r0", "r1", "r2", "r3"]
    assert [answer.status for answer in answers] == [200, 200, 405, 200]


async def test_behind_the_last_request_of_a_connection_nothing_is_begun(served: Served) -> None:
    """The first is refused at once and says that it is the last; what follows it in the same piece does not count."""
    last, next_one = request("sentiment-v1", b"{", b"connection: close"), request("sentiment-v1", GOOD)
    async with served.connect() as connection:
        before = served.bench.call.calls
        answer = await connection.ask(last + next_one)
        assert (answer.status, await connection.is_closed()) == (400, True)
    async with served.connect() as connection:
        assert (await connection.ask(next_one)).status == 200
    assert served.bench.call.calls == before + 1


async def test_trailers_are_no_headers(served: Served) -> None:
    """What comes behind a chunked body neither replaces a header nor adds one."""
    content = REQUESTS["chunks"].removesuffix(b"\r\n") + b"content-type: text/plain\r\n\r\n"
    async with served.connect() as connection:
        assert (await connection.ask(content)).status == 200


async def test_a_small_limit_of_bodies_holds(settings: Settings) -> None:
    small = settings.model_copy(
        update={"limits": settings.limits.model_copy(update={"max_body_bytes": 1000})}
    )
    async with open_bench(small) as bench:
        await bench.deploy("sentiment-v1")
        endpoint = PredictEndpoint(bench.services)
        async with serving(endpoint, has_short_cut=True) as (port, _), Connection(port) as connection:
            for body, status in ((GOOD, 200), (GOOD, 200), ({"inputs": ["x" * 2000]}, 413)):
                assert (await connection.ask(request("sentiment-v1", body))).status == status


async def test_an_answer_that_cannot_be_written_closes_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours: its client learns at once that nothing will come."""

    def fail(*_: object) -> bytes:
        raise RuntimeError("a defect")

    async with served.connect() as connection:
        monkeypatch.setattr("fyretoolkit.api.callbacks._lines", fail)
        connection.writer.write(request("sentiment-v1", GOOD))
        assert await connection.is_closed()


async def test_what_is_no_http_ends_the_connection_alone(served: Served) -> None:
    """Also behind the headers of a prediction, in its body's place."""
    broken = (
        request("sentiment-v1", b"").replace(b"content-length: 0", b"transfer-encoding: chunked") + b"zz\r\n"
    )
    for content in (b"\x00\x01\x02\r\n\r\n", broken):
        async with served.connect() as connection:
            answer = await connection.ask(content)
            assert (answer.status, await connection.is_closed()) == (400, True)
    async with served.connect() as connection:
        assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200


async def test_a_client_that_hangs_up_during_its_call_harms_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written to it, nothing is left of it."""
    may_end, run = asyncio.Event(), InProcessCall.__call__

    async def held(*arguments: Any) -> Any:
        await may_end.wait()
        return await run(*arguments)

    monkeypatch.setattr(InProcessCall, "__call__", held)
    async with served.connect() as connection:
        connection.writer.write(request("sentiment-v1", GOOD))
        await _until(lambda: not all(each.is_idle for each in _coalescers(served)))
    await _until(lambda: not served.server.server_state.connections)
    may_end.set()
    await _until(lambda: all(each.is_idle for each in _coalescers(served)))
    async with served.connect() as connection:
        assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200


async def test_a_server_that_ends_answers_what_it_has_begun(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it closes the connection, and says so."""
    called, may_end, run = asyncio.Event(), asyncio.Event(), InProcessCall.__call__

    async def held(*arguments: Any) -> Any:
        called.set()
        await may_end.wait()
        return await run(*arguments)

    monkeypatch.setattr(InProcessCall, "__call__", held)
    async with served.connect() as connection:
        connection.writer.write(request("sentiment-v1", GOOD))
        await called.wait()
        served.server.should_exit = True
        await _until(lambda: not served.server.servers or not served.server.servers[0].is_serving())
        may_end.set()
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await connection.is_closed()


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(bench: Bench) -> None:
    await bench.deploy("sentiment-v1")
    endpoint = PredictEndpoint(bench.services)
    async with serving(endpoint, has_short_cut=True, idle_s=3) as (port, _), Connection(port) as connection:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + 3.5:
            assert (await connection.ask(request("sentiment-v1", GOOD))).status == 200
            await asyncio.sleep(0.3)
        assert await connection.is_closed()


async def test_a_key_without_the_scope_and_one_over_its_limit(settings: Settings) -> None:
    """Refused as in a task, and counted for the deployment."""
    limited = settings.model_copy(
        update={"plans": {**settings.plans, "two": PlanSettings(read=100, write=100, inference=2)}}
    )
    async with open_bench(limited) as bench:
        deployment = await bench.deploy("sentiment-v1")
        reader = await bench.add_key("org_a", Scope.READ)
        key = await bench.add_key("org_b", plan="two")
        endpoint = PredictEndpoint(bench.services)
        async with serving(endpoint, has_short_cut=True) as (port, _), Connection(port) as connection:
            for _ in range(2):
                answer = await connection.ask(request("sentiment-v1", GOOD, key=reader))
                assert (answer.status, answer.json["error"]["code"]) == (403, "insufficient_scope")
            answers = [await connection.ask(request("sentiment-v1", GOOD, key=key)) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429, 429]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0", "0", "0"]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[2:])
        await bench.services.recorder.flush()
        metrics = (await bench.request("GET", f"/metrics/{deployment.id}?period=5m")).json()["metrics"]
        assert metrics["errors"]["by_code"] == {"rate_limit_exceeded": 3}


async def test_a_prediction_leaves_nothing_for_the_collector(served: Served) -> None:
    """Neither one that is answered nor one that is refused: looking for cycles stops everybody for its time."""
    asked = [REQUESTS[name] for name in ("two inputs", "a tensor", "no JSON", "no model", "a bad input")]
    async with served.connect() as connection:
        for content in asked:
            await connection.ask(content)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                for content in asked:
                    await connection.ask(content)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 100, f"{found} objects in cycles after {20 * len(asked)} requests"


async def test_the_log_has_one_line_of_each(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """As of any request: who, what, which status; nothing of the body."""
    with caplog.at_level("DEBUG", logger="fyretoolkit.access"):
        async with served.connect() as connection:
            for name in ("a request id", "no JSON"):
                await connection.ask(REQUESTS[name])
    lines = [json.loads(record.message) for record in caplog.records if record.name == "fyretoolkit.access"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/predict/sentiment-v1", 200),
        ("POST", "/predict/sentiment-v1", 400),
    ]
    assert lines[0]["request_id"] == "mine-1"
    assert {(line["org"], line["key"]) for line in lines} == {("org_demo", "demo")}


def _coalescers(served: Served) -> list[Any]:
    return list(served.bench.services.coalescers._by_deployment.values())


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - what is looked at announces nothing
            await asyncio.sleep(0.005)
