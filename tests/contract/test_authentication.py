"""Authentication: who gets in, and that nobody learns why not."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.api import auth
from fyretoolkit.api.auth import CACHE_S, GRACE_S, PROBE_S, RENEW_S, Keyring, authenticate
from fyretoolkit.api.services import open_services
from fyretoolkit.core.api_keys import Credential, new_key
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import Scope
from fyretoolkit.settings import DEMO_KEY, Settings
from fyretoolkit.store.api_keys import ApiKeyStore
from tests.support.api_bench import Bench, InProcessCall, until

pytestmark = pytest.mark.anyio

_DEMO = base64.b64encode(f"{DEMO_KEY}:".encode()).decode()


async def _status_with(bench: Bench, *headers: str | bytes) -> int:
    raw = [
        (b"authorization", value if isinstance(value, bytes) else value.encode("latin-1"))
        for value in headers
    ]
    response = await bench.http.get("/models", headers=raw)
    return int(response.status_code)


@pytest.mark.parametrize(
    "header", [f"Basic {_DEMO}", f"basic   {_DEMO}", f"Bearer {DEMO_KEY}", f"bEaReR {DEMO_KEY}"]
)
async def test_the_key_is_taken_as_basic_username_or_bearer_token(bench: Bench, header: str) -> None:
    assert await _status_with(bench, header) == 200


def _basic(text: bytes) -> str:
    return f"Basic {base64.b64encode(text).decode()}"


HOSTILE: list[str | bytes] = [
    "",
    "Basic",
    "Basic ",
    "Basic \x00",
    _DEMO,
    f"Digest {_DEMO}",
    f"Basic {_DEMO} trailing",
    f"Basic {_DEMO},Basic {_DEMO}",
    f"Basic\t{_DEMO}",
    f" Basic {_DEMO}",
    f"Basic {_DEMO[:-1]}",
    f"Basic {_DEMO}====",
    _basic(DEMO_KEY.encode()),
    _basic(f"{DEMO_KEY}:password".encode()),
    _basic(f"{DEMO_KEY}::".encode()),
    _basic(f":{DEMO_KEY}".encode()),
    _basic(f" {DEMO_KEY}:".encode()),
    _basic(f"{DEMO_KEY}\x00:".encode()),
    _basic(f"{DEMO_KEY.upper()}:".encode()),
    _basic(b"\xff\xfe:"),
    _basic(b":"),
    f"Bearer {DEMO_KEY}x",
    f"Bearer {DEMO_KEY[:-1]}",
    "Bearer sk_live_nobody_12345",
    "Bearer sk_live_*_12345",
    "Bearer sk_live_demo:x_12345",
    "Bearer " + "a" * 20_000,
    b"Bearer \xf0\x9f\x94\x91",
]


@pytest.mark.parametrize("header", HOSTILE, ids=range(len(HOSTILE)))
async def test_any_other_header_is_refused_alike(bench: Bench, header: str | bytes) -> None:
    raw = header if isinstance(header, bytes) else header.encode("latin-1")
    fixed_id = {"x-request-id": "same"}
    refused = await bench.http.get("/models", headers=[(b"authorization", raw), *_raw(fixed_id)])
    missing = await bench.http.get("/models", headers=fixed_id)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="FyreToolkit"'
    assert refused.content == missing.content
    assert refused.json()["error"]["code"] == "invalid_api_key"


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def test_two_authorization_headers_are_refused(bench: Bench) -> None:
    assert await _status_with(bench, f"Basic {_DEMO}", f"Basic {_DEMO}") == 401


async def test_the_body_of_a_stranger_is_not_read(bench: Bench) -> None:
    response = await bench.request("POST", "/deployments", key=None, content=b"x" * 200_000)
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        (Scope.PREDICT, "GET", "/models"),
        (Scope.READ, "POST", "/predict/digits"),
        (Scope.READ, "POST", "/deployments"),
        (Scope.READ, "POST", "/batch/digits"),
        (Scope.READ, "DELETE", "/deployments/dep_x"),
        (Scope.PREDICT, "POST", "/jobs/job_x/cancel"),
    ],
)
async def test_a_key_without_the_scope_is_told_which_it_needs(
    bench: Bench, scope: Scope, method: str, path: str
) -> None:
    key = await bench.add_key("org_a", scope)
    response = await bench.request(method, path, key=key, json={})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "insufficient_scope"


@pytest.mark.parametrize("ended", ["revoked_at", "expires_at"])
async def test_a_revoked_or_expired_key_is_refused_like_an_unknown_one(bench: Bench, ended: str) -> None:
    key, record = new_key("org_a", "test", Scope, created=1)
    await ApiKeyStore(bench.services.store).add(replace(record, **{ended: 2}))
    same_id = {"x-request-id": "same"}
    revoked = await bench.request("GET", "/models", key=key, headers=same_id)
    missing = await bench.request("GET", "/models", key=None, headers=same_id)
    assert revoked.status_code == 401
    assert revoked.content == missing.content


async def test_production_mode_has_no_demo_key(settings: Settings, bench: Bench) -> None:
    """The record is in Redis (a copy that was in development mode before), and still it opens nothing."""

    async def ready() -> dict[str, str]:
        return {}

    production = settings.model_copy(update={"mode": "production"})
    services = open_services(production, InProcessCall(), ready)
    try:
        assert await bench.services.keys.get("demo") is not None
        assert await services.keys.get("demo") is None
    finally:
        await services.store.close()


class _Now:
    """A clock that shows what it is told."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self) -> float:
        return self.value


class _Source:
    def __init__(self) -> None:
        self.key: Credential | None = Credential(new_key("org_a", "test", Scope, created=1)[1], "free")
        self.reads = 0
        self.is_away = False
        self.gate: asyncio.Event | None = None
        self.during_read: Callable[[], None] = lambda: None

    async def credential(self, key_id: str) -> Credential | None:
        assert key_id == "key_a"
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise PlatformError("unavailable")
        found = self.key
        self.during_read()
        return found


async def test_a_key_is_remembered_for_five_seconds_and_no_longer() -> None:
    now = 100.0
    source = _Source()
    keyring = Keyring(source, clock=lambda: now)
    assert await keyring.get("key_a") is not None
    source.key = None
    now += CACHE_S - 0.01
    assert await keyring.get("key_a") is not None
    now += 0.02
    assert await keyring.get("key_a") is None
    assert source.reads == 2


async def test_a_known_key_works_for_a_while_without_redis() -> None:
    now = 100.0
    source = _Source()
    keyring = Keyring(source, clock=lambda: now)
    await keyring.get("key_a")
    source.is_away = True
    assert await keyring.get("key_a") is not None
    now += CACHE_S
    with pytest.raises(PlatformError, match="unavailable"):
        await keyring.get("key_a")


async def test_a_key_in_use_is_renewed_before_it_is_too_old() -> None:
    """Once for all that use it, none of which waits; the store's answer counts from when it was asked."""
    now = 100.0
    source = _Source()
    keyring = Keyring(source, clock=lambda: now)
    first = await keyring.get("key_a")
    now += RENEW_S
    source.key = second = Credential(new_key("org_a", "test", Scope, created=1)[1], "pro")
    source.gate = asyncio.Event()
    assert [await keyring.get("key_a") for _ in range(3)] == [first] * 3
    source.gate.set()
    await asyncio.gather(*keyring._tasks)
    assert source.reads == 2
    now += CACHE_S - 0.01
    assert await keyring.get("key_a") is second
    await keyring.close()


async def test_a_look_up_that_is_under_way_ends_with_the_keyring() -> None:
    source = _Source()
    source.gate = asyncio.Event()
    keyring = Keyring(source)
    asking = asyncio.create_task(keyring.get("key_a"))
    await asyncio.sleep(0)
    await keyring.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not keyring._tasks


async def _in_outage(listening_since: float, *, asked_at: float = 100.0) -> tuple[Keyring, _Source, _Now]:
    """A keyring that knows a key, over a store that has just gone."""
    now, source = _Now(asked_at), _Source()
    keyring = Keyring(source, clock=now)
    keyring._listening_since = listening_since
    assert await keyring.get("key_a") is not None
    source.is_away = True
    now.value += CACHE_S
    return keyring, source, now


async def test_without_redis_predictions_go_on_with_a_key_for_a_minute() -> None:
    """Nothing else does; and the store is asked again and again, without anybody waiting for it."""
    keyring, source, now = await _in_outage(99.0)
    with pytest.raises(PlatformError, match="unavailable"):
        await keyring.get("key_a")
    for _ in range(100):
        now.value = min(now.value + PROBE_S, 100 + GRACE_S - 0.01)
        assert await keyring.get("key_a", has_grace=True) is source.key
        await asyncio.gather(*keyring._tasks, return_exceptions=True)
    assert source.reads > 90
    now.value = 100 + GRACE_S
    with pytest.raises(PlatformError, match="unavailable"):
        await keyring.get("key_a", has_grace=True)


async def test_a_key_that_was_confirmed_before_anybody_listened_gets_no_grace() -> None:
    """Its revocation may have been announced to nobody."""
    keyring, _, _ = await _in_outage(100.1)
    with pytest.raises(PlatformError, match="unavailable"):
        await keyring.get("key_a", has_grace=True)


async def test_a_revocation_heard_before_the_outage_ends_the_grace() -> None:
    keyring, _, _ = await _in_outage(99.0)
    keyring.forget("key_a")
    with pytest.raises(PlatformError, match="unavailable"):
        await keyring.get("key_a", has_grace=True)


async def test_an_absence_seen_long_ago_is_no_absence() -> None:
    """Nobody predicted meanwhile: the store, which is back, is asked before an answer."""
    keyring, source, now = await _in_outage(99.0)
    assert await keyring.get("key_a", has_grace=True) is not None
    await asyncio.gather(*keyring._tasks, return_exceptions=True)
    now.value += CACHE_S
    source.is_away, source.key = False, None
    assert await keyring.get("key_a", has_grace=True) is None


async def test_a_silent_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the connection and says nothing."""
    monkeypatch.setattr(auth, "PATIENCE_S", 0.01)
    source = _Source()
    source.gate = asyncio.Event()
    with pytest.raises(PlatformError, match="unavailable"):
        await Keyring(source).get("key_a")


async def test_an_outage_of_a_minute(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client sees it: predictions go on, reads and writes do not; then nothing does; then all is back."""
    now = _Now(time.monotonic())
    monkeypatch.setattr(bench.services.keys, "_clock", now)
    await until(bench.is_watching)
    key = await bench.add_key("org_a")
    await bench.deploy("digits")

    async def statuses() -> list[int]:
        body = {"inputs": [[0.0] * 64]}
        answers = [
            await bench.request("POST", "/predict/digits", key=key, json=body),
            await bench.request("GET", "/models", key=key),
            await bench.request("DELETE", "/deployments/dep_01M82CZBDNTDTBGWDT4TW34HQ4", key=key),
        ]
        return [answer.status_code for answer in answers]

    async def refuse(*_: object, **__: object) -> None:
        raise RedisConnectionError

    now.value += 1
    bench.services.keys.forget_organization("org_a")
    assert await statuses() == [200, 200, 404]
    with monkeypatch.context() as outage:
        outage.setattr(bench.services.store.redis, "execute_command", refuse)
        for seconds in (1, CACHE_S, GRACE_S - CACHE_S - 2):
            now.value += seconds
            assert await statuses() == [200, 503, 503]
        now.value += 2
        assert await statuses() == [503, 503, 503]
    assert await statuses() == [200, 200, 404]


async def test_unknown_keys_are_not_remembered() -> None:
    source = _Source()
    key, source.key = source.key, None
    keyring = Keyring(source)
    assert await keyring.get("key_a") is None
    source.key = key
    assert await keyring.get("key_a") is key


@pytest.mark.parametrize("how", ["key", "organization"])
async def test_what_changed_is_looked_up_again(how: str) -> None:
    source = _Source()
    keyring = Keyring(source)
    await keyring.get("key_a")
    source.key = None
    _announce(keyring, how)
    assert await keyring.get("key_a") is None


@pytest.mark.parametrize("how", ["key", "organization"])
async def test_a_look_that_a_change_overtook_is_not_remembered(how: str) -> None:
    """The answer left the store before the change and comes in after its announcement."""
    source = _Source()
    keyring = Keyring(source)
    source.during_read = lambda: _announce(keyring, how)
    assert await keyring.get("key_a") is not None
    source.key = None
    assert await keyring.get("key_a") is None


async def test_changes_of_others_leave_a_key_remembered() -> None:
    source = _Source()
    keyring = Keyring(source)
    await keyring.get("key_a")
    keyring.forget("key_b")
    keyring.forget_organization("org_b")
    await keyring.get("key_a")
    assert source.reads == 1


def _announce(keyring: Keyring, how: str) -> None:
    if how == "key":
        keyring.forget("key_a")
    else:
        keyring.forget_organization("org_a")


async def test_simultaneous_look_ups_are_one() -> None:
    source = _Source()
    keyring = Keyring(source)
    found = await asyncio.gather(*(keyring.get("key_a") for _ in range(20)))
    assert source.reads == 1
    assert all(each is source.key for each in found)


async def test_a_request_costs_one_look_at_redis_and_none_when_warm(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and plan come together, and an unknown key costs no more than a known one."""
    key = await bench.add_key("org_a", plan="pro")
    store, scripts = bench.services.store, []
    run = store.run

    async def recorded(script: str, *arguments: Any) -> Any:
        scripts.append(script)
        return await run(script, *arguments)

    monkeypatch.setattr(store, "run", recorded)
    keyring = Keyring(bench.services.api_keys)
    headers = [(b"authorization", f"Bearer {key}".encode())]
    for _ in range(3):
        principal = await authenticate(headers, keyring, Scope.PREDICT)
    assert (principal.org, principal.plan) == ("org_a", "pro")
    with pytest.raises(PlatformError, match="invalid_api_key"):
        await authenticate([(b"authorization", b"Bearer sk_live_nobody_12345")], keyring, Scope.PREDICT)
    assert scripts == ["read_credential"] * 2


async def test_an_organization_without_a_record_has_the_smallest_plan(bench: Bench) -> None:
    key, record = new_key("org_a", "test", Scope, created=1)
    await bench.services.api_keys.add(record)
    headers = [(b"authorization", f"Bearer {key}".encode())]
    assert (await authenticate(headers, bench.services.keys, Scope.READ)).plan == "free"
