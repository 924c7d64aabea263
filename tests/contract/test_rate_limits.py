"""Rate limits as a client meets them: headers, 429, what shares a count and what does not."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.api.edge import Edge
from fyretoolkit.core.limits import UNLIMITED
from fyretoolkit.core.organizations import Scope
from fyretoolkit.settings import DEFAULT_PLANS, DEMO_KEY, LimitSettings, PlanSettings, Settings
from fyretoolkit.store.connection import RETRY_AFTER_S
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

DIGIT = [0.0] * 64
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
TINY = PlanSettings(read=3, write=2, inference=4)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Plans small enough to be used up, and one that is quickly free again."""
    plans = {**settings.plans, "tiny": TINY, "free": TINY}
    return settings.model_copy(update={"plans": plans})


@pytest.fixture
async def key(bench: Bench) -> str:
    """A key on the smallest plan."""
    return await bench.add_key("org_a", plan="tiny")


def _standing(response: httpx.Response) -> tuple[int, int, int]:
    """Limit, remaining, reset; each header must be there exactly once."""
    values = [response.headers.get_list(name) for name in HEADERS]
    assert [len(value) for value in values] == [1, 1, 1], response.headers
    limit, remaining, reset = (int(value) for (value,) in values)
    return limit, remaining, reset


def _assert_refused(response: httpx.Response, category: str, limit: int, window_s: int = 60) -> None:
    assert response.status_code == 429, response.text
    error = response.json()["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["details"] == {"category": category, "limit": limit, "window_s": window_s}
    wait_s = int(response.headers["retry-after"])
    assert 1 <= wait_s <= window_s
    assert _standing(response)[:2] == (limit, 0)


async def _predict(bench: Bench, key: str, inputs: Any = None) -> httpx.Response:
    body = {"inputs": [DIGIT] if inputs is None else inputs}
    response: httpx.Response = await bench.request("POST", "/predict/digits", key=key, json=body)
    return response


async def test_reads_count_down_to_a_429(bench: Bench, key: str) -> None:
    """GET and HEAD of every resource share one count."""
    paths = (("GET", "/models"), ("HEAD", "/deployments"), ("GET", "/jobs/job_unknown"))
    answers = [await bench.request(method, path, key=key) for method, path in paths]
    assert [_standing(answer)[:2] for answer in answers] == [(3, 2), (3, 1), (3, 0)]
    _assert_refused(await bench.request("GET", "/models", key=key), "read", 3)


async def test_writes_have_a_count_of_their_own(bench: Bench, key: str) -> None:
    """POST, PATCH and DELETE of everything but predictions share it; reads go on."""
    answers = [
        await bench.request("POST", "/deployments", key=key, json={}),
        await bench.request("DELETE", "/deployments/dep_unknown", key=key),
    ]
    assert [_standing(answer)[:2] for answer in answers] == [(2, 1), (2, 0)]
    refused = await bench.request("POST", "/batch/digits", key=key, json={})
    _assert_refused(refused, "write", 2)
    assert (await bench.request("GET", "/models", key=key)).status_code == 200


async def test_predictions_have_a_count_of_their_own(bench: Bench, key: str) -> None:
    """Whatever the model is, and whether it is there."""
    await bench.deploy("digits")
    answers = [await _predict(bench, key) for _ in range(3)]
    answers.append(await bench.request("POST", "/predict/nobody", key=key, json={"inputs": [1]}))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert [_standing(answer)[:2] for answer in answers] == [(4, 3), (4, 2), (4, 1), (4, 0)]
    _assert_refused(await _predict(bench, key), "inference", 4)
    assert (await bench.request("GET", "/models", key=key)).status_code == 200


async def test_the_reset_is_when_the_oldest_request_leaves_the_window(bench: Bench, key: str) -> None:
    """In whole Unix seconds, rounded up; the same for each request of a window."""
    await bench.deploy("digits")
    for send in (lambda: bench.request("GET", "/models", key=key), lambda: _predict(bench, key)):
        before = time.time()
        first = await send()
        after = time.time()
        reset = _standing(first)[2]
        assert before + 60 <= reset < after + 61
        assert _standing(await send())[2] in (reset, reset + 1)


async def test_spellings_of_one_path_share_one_count(bench: Bench, key: str) -> None:
    """A query, an escaped letter, a lower-case scheme: none opens a second bucket."""
    for path in ("/models", "/models?limit=1", "/%6Dodels"):
        assert (await bench.request("GET", path, key=key)).status_code == 200
    for path in ("/models?limit=2", "/mod%65ls"):
        _assert_refused(await bench.request("GET", path, key=key), "read", 3)
    token = base64.b64encode(f"{key}:".encode()).decode()
    for header in (f"Bearer {key}", f"basic {token}"):
        refused = await bench.http.get("/models", headers={"authorization": header})
        _assert_refused(refused, "read", 3)


async def test_each_key_has_its_own_limit(bench: Bench, key: str) -> None:
    """Of the same organization, too."""
    for _ in range(4):
        refused = await bench.request("GET", "/models", key=key)
    _assert_refused(refused, "read", 3)
    sibling = await bench.add_key("org_a")
    assert _standing(await bench.request("GET", "/models", key=sibling))[:2] == (3, 2)


async def test_refused_requests_do_not_count(bench: Bench, settings: Settings) -> None:
    """Hammering does not push the moment away at which the first slot is free."""
    key = await bench.add_key("org_a", plan="tiny")
    for _ in range(3):
        await bench.request("GET", "/models", key=key)
    first = await bench.request("GET", "/models", key=key)
    for _ in range(20):
        last = await bench.request("GET", "/models", key=key)
    assert _standing(last)[2] == _standing(first)[2]
    assert int(last.headers["retry-after"]) <= int(first.headers["retry-after"])


async def test_a_simultaneous_burst_is_admitted_to_the_limit_exactly(bench: Bench, key: str) -> None:
    """Forty at once in each category."""
    await bench.deploy("digits")
    sends = {
        "read": lambda: bench.request("GET", "/models", key=key),
        "write": lambda: bench.request("DELETE", "/deployments/dep_unknown", key=key),
        "inference": lambda: _predict(bench, key),
    }
    for category, send in sends.items():
        answers = await asyncio.gather(*(send() for _ in range(40)))
        admitted = [answer for answer in answers if answer.status_code != 429]
        limit = getattr(TINY, category)
        assert len(admitted) == limit
        for answer in answers:
            if answer.status_code == 429:
                _assert_refused(answer, category, limit)


# Headers on every answer


async def test_every_answer_after_authentication_says_where_the_key_stands(bench: Bench) -> None:
    """2xx, 4xx and 5xx alike, from routes and from predict."""
    await bench.deploy("digits")
    send = bench.request
    reader = await bench.add_key("org_b", Scope.READ, plan="development")
    too_large = {"content": b" " * 100_001, "headers": {"content-type": "application/json"}}
    text = {"content": b"{}", "headers": {"content-type": "text/plain"}}
    answers = [
        (200, await send("GET", "/models")),
        (400, await send("GET", "/models?limit=0")),
        (400, await send("POST", "/deployments", json={})),
        (400, await send("POST", "/predict/digits", json={})),
        (403, await send("POST", "/deployments", json={}, key=reader)),
        (403, await send("POST", "/predict/digits", json={}, key=reader)),
        (404, await send("GET", "/jobs/job_unknown")),
        (404, await bench.predict("nobody", [1])),
        (413, await send("POST", "/deployments", **too_large)),
        (413, await send("POST", "/predict/digits", **too_large)),
        (415, await send("POST", "/predict/digits", **text)),
        (201, await bench.create_deployment(model_uri="models://digits")),
        (422, await bench.create_deployment(region="mars")),
        (422, await bench.predict("digits", ["not a digit"])),
        (200, await bench.predict("digits", [DIGIT])),
    ]
    for expected, answer in answers:
        assert answer.status_code == expected, answer.text
        _standing(answer)


async def test_a_defect_is_answered_with_them_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 from a route and from predict."""

    async def fail(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(type(bench.services.predictor), "predict", fail)
    monkeypatch.setattr(type(bench.services.models), "get", fail)
    for answer in (await bench.predict("digits", [DIGIT]), await bench.request("GET", "/models/digits")):
        assert answer.status_code == 500
        _standing(answer)


async def test_nested_edges_say_it_once(bench: Bench, key: str) -> None:
    """As in the product, where Serve's wrapper stands between the app's edge and another one outside of it."""
    await bench.deploy("digits")
    transport = httpx.ASGITransport(Edge(Edge(bench.app)), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api.localhost", auth=(key, "")
    ) as http:
        for answer in (
            await http.get("/models"),
            await http.get("/jobs/job_unknown"),
            await http.post("/predict/digits", json={"inputs": [DIGIT]}),
            await http.post("/predict/digits", json={}),
        ):
            _standing(answer)
            assert len(answer.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("GET", "/models", None),
        ("GET", "/models", "sk_live_nobody_12345"),
        ("GET", "/healthz", DEMO_KEY),
        ("GET", "/readyz", DEMO_KEY),
        ("GET", "/openapi.json", DEMO_KEY),
        ("GET", "/nope", DEMO_KEY),
        ("PUT", "/models", DEMO_KEY),
    ],
)
async def test_what_is_answered_before_or_without_authentication_is_free(
    bench: Bench, method: str, path: str, given: str | None
) -> None:
    """Nothing is counted, so nothing is said."""
    answer = await bench.request(method, path, key=given)
    assert not set(HEADERS) & set(answer.headers)


# Plans


async def test_a_plan_without_limits_asks_redis_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers are there with a thousand million, and a reset a window from now."""
    key = await bench.add_key("org_a", plan="unlimited")
    await bench.deploy("digits")
    ran: list[str] = []
    run = type(bench.services.store).run

    async def watched(store: Any, script: str, *rest: Any) -> Any:
        ran.append(script)
        return await run(store, script, *rest)

    monkeypatch.setattr(type(bench.services.store), "run", watched)
    for send in (
        lambda: bench.request("GET", "/models", key=key),
        lambda: bench.request("DELETE", "/deployments/dep_unknown", key=key),
        lambda: _predict(bench, key),
    ):
        before = time.time()
        limit, remaining, reset = _standing(await send())
        assert (limit, remaining) == (UNLIMITED, UNLIMITED)
        assert before + 59 <= reset <= time.time() + 61
    assert not {"log_request", "renew_lease"} & set(ran)


async def test_a_plan_that_is_not_in_the_file_is_the_free_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so once, not at every request."""
    key = await bench.add_key("org_a", plan="platinum")
    with caplog.at_level(logging.ERROR, "fyretoolkit.api.limits"):
        for _ in range(2):
            answer = await bench.request("GET", "/models", key=key)
            assert _standing(answer)[0] == TINY.read
    assert len(caplog.records) == 1
    assert "platinum" in caplog.text


def test_the_delivered_plans_are_those_of_the_contract() -> None:
    """As API.md lists them; a test platform must not change them."""
    assert {name: plan.inference for name, plan in DEFAULT_PLANS.items()} == {
        "free": 600,
        "pro": 60_000,
        "development": 1_000_000,
        "unlimited": None,
    }
    assert {(plan.read, plan.write) for name, plan in DEFAULT_PLANS.items() if name != "unlimited"} == {
        (120, 60)
    }


# The shape of the work


async def test_a_warm_prediction_makes_no_redis_call(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, route and tokens are in this process: a hundred predictions wait for nothing of Redis."""
    await bench.deploy("digits")
    assert (await bench.predict("digits", [DIGIT])).status_code == 200
    calls = 0
    task = asyncio.current_task()
    execute = bench.services.store.redis.execute_command

    async def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += asyncio.current_task() is task
        return await execute(*arguments, **options)

    monkeypatch.setattr(bench.services.store.redis, "execute_command", watched)
    for _ in range(100):
        assert (await bench.predict("digits", [DIGIT])).status_code == 200
    assert calls == 0
    assert (await bench.request("GET", "/models/digits")).status_code == 200
    assert calls > 0


async def test_without_redis_predictions_go_on_with_the_tokens_in_hand(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then 503; reads and writes answer 503 at once. Every answer says where the key stands."""
    bench.services.settings.plans["pocket"] = PlanSettings(read=10, write=10, inference=300)
    key = await bench.add_key("org_a", plan="pocket")
    await bench.deploy("digits")
    assert (await _predict(bench, key)).status_code == 200

    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    with monkeypatch.context() as outage:
        outage.setattr(bench.services.store.redis, "execute_command", refuse)
        answers = [await _predict(bench, key) for _ in range(5)]
        for method, path in (("GET", "/models"), ("DELETE", "/deployments/dep_unknown")):
            answers.append(await bench.request(method, path, key=key))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503, 503, 503, 503]
    for answer in answers:
        _standing(answer)
    for answer in answers[3:]:
        assert answer.json()["error"]["code"] == "unavailable"
        assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
    for method, path in (("GET", "/models"), ("DELETE", "/deployments/dep_unknown")):
        assert _standing(await bench.request(method, path, key=key))[1] == 9


# A window of one second


class TestShortWindow:
    """The window is configuration: of one second, so that a test can wait for it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limits = LimitSettings(rate_window_s=1, max_body_bytes=100_000)
        return settings.model_copy(update={"limits": limits})

    async def test_who_waits_as_long_as_told_is_admitted(self, bench: Bench, key: str) -> None:
        """In each category, at the first try."""
        await bench.deploy("digits")
        for category, send in (
            ("read", lambda: bench.request("GET", "/models", key=key)),
            ("write", lambda: bench.request("DELETE", "/deployments/dep_unknown", key=key)),
            ("inference", lambda: _predict(bench, key)),
        ):
            limit = getattr(TINY, category)
            for _ in range(20 * limit):
                refused = await send()
                if refused.status_code == 429:
                    break
            _assert_refused(refused, category, limit, window_s=1)
            await asyncio.sleep(int(refused.headers["retry-after"]))
            assert (await send()).status_code != 429

    async def test_a_key_left_alone_leaves_nothing_behind(self, bench: Bench, key: str) -> None:
        """Leases are given back and forgotten, logs and ledgers expire."""
        await bench.deploy("digits")
        await _predict(bench, key)
        await bench.request("GET", "/models", key=key)
        store, leases = bench.services.store, bench.services.limits.leases
        async with asyncio.timeout(30):
            while leases._accounts or await store.redis.keys("fyre:org:org_a:limits:*"):  # noqa: ASYNC110 - Redis expires it
                await asyncio.sleep(0.01)
