"""`/api_keys`: an organization's own keys, each shown once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fyretoolkit.core.api_keys import key_digest
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.settings import DEMO_KEY
from fyretoolkit.store import api_keys, keys
from tests.support.api_bench import Bench, until

pytestmark = pytest.mark.anyio

UNKNOWN = "key_01M82CZBDNTDTBGWDT4TW34HQ4"
FIELDS = {
    "id", "object", "name", "scopes", "organization", "masked", "status", "created", "expires_at", "revoked_at",
    "replaced_by",
}  # fmt: skip


async def _create(bench: Bench, key: str = DEMO_KEY, **fields: Any) -> dict[str, Any]:
    response = await bench.request("POST", "/api_keys", key=key, json={"name": "ci", **fields})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def _code(bench: Bench, method: str, path: str, **options: Any) -> tuple[int, str]:
    response = await bench.request(method, path, **options)
    return response.status_code, response.json()["error"]["code"]


async def _opens(bench: Bench, key: str) -> bool:
    """Whether a key works, asked of Redis itself: how soon others see a change is tested apart."""
    key_id = key.split("_")[2:4]
    bench.services.keys.forget("_".join(key_id))
    return bool((await bench.request("GET", "/models", key=key)).status_code == 200)


async def test_a_new_key_works_and_is_shown_once(bench: Bench) -> None:
    response = await bench.request("POST", "/api_keys", json={"name": "ci"})
    created = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/api_keys/{created['id']}"
    assert response.headers["cache-control"] == "no-store"
    assert set(created) == {*FIELDS, "key"}
    assert created["key"].startswith(f"sk_live_{created['id']}_")
    assert created["masked"] == f"sk_live_{created['id']}_****{created['key'][-4:]}"
    assert (created["object"], created["status"], created["organization"]) == ("api_key", "active", DEMO_ORG)
    assert created["scopes"] == ["read", "predict", "write"]
    assert (created["expires_at"], created["revoked_at"], created["replaced_by"]) == (None, None, None)
    shown = (await bench.request("GET", response.headers["location"])).json()
    assert shown == {name: created[name] for name in FIELDS}
    assert (await bench.request("GET", "/models", key=created["key"])).status_code == 200


async def test_secrets_have_192_bits_beyond_what_is_shown(bench: Bench) -> None:
    """43 characters of base64url are 256 bits, and four of them are in every list."""
    created = [await _create(bench) for _ in range(3)]
    secrets = {key["key"].removeprefix(f"sk_live_{key['id']}_") for key in created}
    assert len(secrets) == 3
    assert all((len(secret) - 4) * 6 >= 192 for secret in secrets)


async def test_no_secret_is_in_redis(bench: Bench) -> None:
    """Neither after a creation, nor after a rotation, whatever header asks for idempotency."""
    header = {"Idempotency-Key": "k"}
    first = await bench.request("POST", "/api_keys", json={"name": "ci"}, headers=header)
    again = await bench.request("POST", "/api_keys", json={"name": "ci"}, headers=header)
    assert "idempotent-replayed" not in again.headers
    assert first.json()["id"] != again.json()["id"]
    rotated = await bench.request("POST", f"/api_keys/{first.json()['id']}/rotate", json={}, headers=header)
    organization = await bench.request("POST", "/organizations", json={"name": "a"}, headers=header)
    stored = await _everything(bench)
    for key in (first.json(), again.json(), rotated.json(), organization.json()["api_key"]):
        assert key_digest(key["key"]) in stored
        assert key["key"].removeprefix(f"sk_live_{key['id']}_") not in stored


async def _everything(bench: Bench) -> str:
    redis = bench.services.store.redis
    found = []
    async for name in redis.scan_iter("*"):
        kind = await redis.type(name)
        found.append(
            await redis.hgetall(name)
            if kind == "hash"
            else await redis.get(name)
            if kind == "string"
            else name
        )
    return str(found)


async def test_a_secret_is_never_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    created = await _create(bench)
    await bench.request("GET", "/models", key=created["key"])
    await bench.request("GET", "/nowhere", key=created["key"])
    assert created["id"] in caplog.text
    assert created["key"].removeprefix(f"sk_live_{created['id']}_") not in caplog.text


async def test_scopes_are_those_asked_for_each_once(bench: Bench) -> None:
    created = await _create(bench, scopes=["predict", "read", "predict"])
    assert created["scopes"] == ["read", "predict"]
    assert await _code(bench, "POST", "/deployments", key=created["key"], json={}) == (
        403,
        "insufficient_scope",
    )


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.ADMIN])
async def test_keys_are_managed_by_admins_alone(bench: Bench, scope: Scope) -> None:
    key = await bench.add_key("org_a", scope)
    for method, path in (
        ("POST", "/api_keys"),
        ("GET", "/api_keys"),
        ("GET", f"/api_keys/{UNKNOWN}"),
        ("POST", f"/api_keys/{UNKNOWN}/rotate"),
        ("DELETE", f"/api_keys/{UNKNOWN}"),
    ):
        assert await _code(bench, method, path, key=key, json={}) == (403, "insufficient_scope")


async def test_nobody_makes_a_key_that_may_do_more_than_their_own(bench: Bench) -> None:
    """Neither by creating one, nor by rotating one that may."""
    admin = await bench.add_key("org_a", Scope.ADMIN, Scope.READ)
    strong = await bench.add_key("org_a", Scope.ADMIN, Scope.READ, Scope.OPERATOR)
    strong_id = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][0]["id"]
    response = await bench.request(
        "POST", "/api_keys", key=admin, json={"name": "x", "scopes": ["read", "operator"]}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "operator" in response.json()["error"]["message"]
    path = f"/api_keys/{strong_id}/rotate"
    assert await _code(bench, "POST", path, key=admin, json={}) == (403, "insufficient_scope")
    assert (await bench.request("POST", path, key=strong, json={})).status_code == 201


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\x1b[31mred"}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": "read"}, "scopes"),
        ({"name": "x", "scopes": ["everything"]}, "scopes[0]"),
        ({"name": "x", "expires_in_s": 0}, "expires_in_s"),
        ({"name": "x", "expires_in_s": "60"}, "expires_in_s"),
        ({"name": "x", "expires_in_s": 1.5}, "expires_in_s"),
        ({"name": "x", "scope": ["read"]}, "scope"),
        ({"name": "x", "idempotency_key": "k"}, "idempotency_key"),
    ],
)
async def test_a_body_outside_the_contract_is_400(bench: Bench, body: dict[str, Any], path: str) -> None:
    response = await bench.request("POST", "/api_keys", json=body)
    assert response.status_code == 400
    assert [field["path"] for field in response.json()["error"]["details"]["fields"]] == [path]


async def test_an_expired_key_is_refused_and_shown_as_revoked(bench: Bench) -> None:
    created = await _create(bench, expires_in_s=60)
    assert created["expires_at"] == created["created"] + 60
    assert await _opens(bench, created["key"])
    await _expire(bench, created["id"])
    assert not await _opens(bench, created["key"])
    shown = (await bench.request("GET", f"/api_keys/{created['id']}")).json()
    assert (shown["status"], shown["revoked_at"]) == ("revoked", None)


async def _expire(bench: Bench, key_id: str) -> None:
    await bench.services.store.redis.hset(keys.api_key(key_id), "expires_at", str(int(time.time())))


async def test_pages_are_newest_first_masked_and_hold_revoked_keys(bench: Bench) -> None:
    made = [(await _create(bench))["id"] for _ in range(4)]
    await bench.request("DELETE", f"/api_keys/{made[1]}")
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await bench.request("GET", "/api_keys", params=query)).json()
        assert page["object"] == "list"
        seen += page["data"]
        if not page["has_more"]:
            break
        query["starting_after"] = seen[-1]["id"]
    assert [key["id"] for key in seen] == [*reversed(made), "demo"]
    assert [key["status"] for key in seen] == ["active", "active", "revoked", "active", "active"]
    assert all(set(key) == FIELDS for key in seen)
    assert seen[-1]["masked"] == "sk_live_demo_****2345"
    after_last = await bench.request("GET", "/api_keys", params={"starting_after": "demo"})
    assert after_last.json()["data"] == []


async def test_the_oldest_of_many_that_ended_are_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An organization does not fill Redis with keys, nor has every revocation look at all that had the scope admin."""
    monkeypatch.setattr(api_keys, "KEPT_ENDED", 2)
    admin = await bench.add_key("org_a")
    kept, *ended = [await _create(bench, admin, scopes=["admin", "read"]) for _ in range(6)]
    for each in ended:
        await bench.request("DELETE", f"/api_keys/{each['id']}", key=admin)
    made = await _create(bench, admin)
    listed = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][:-1]
    assert [key["id"] for key in listed] == [made["id"], ended[4]["id"], ended[3]["id"], kept["id"]]
    assert await _code(bench, "GET", f"/api_keys/{ended[2]['id']}", key=admin) == (404, "api_key_not_found")
    assert [await _opens(bench, key["key"]) for key in (kept, made, ended[0])] == [True, True, False]
    redis = bench.services.store.redis
    assert not await redis.exists(*(keys.api_key(each["id"]) for each in ended[:3]))
    assert not {each["id"] for each in ended} & await redis.smembers(keys.org_admins("org_a"))


async def test_rotations_leave_no_more_than_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has expired has ended as well."""
    monkeypatch.setattr(api_keys, "KEPT_ENDED", 2)
    admin = await bench.add_key("org_a")
    newest = await _create(bench, admin)
    for _ in range(6):
        path, body = f"/api_keys/{newest['id']}/rotate", {"overlap_s": 0}
        newest = (await bench.request("POST", path, key=admin, json=body)).json()
    listed = (await bench.request("GET", "/api_keys", key=admin)).json()["data"]
    assert [key["status"] for key in listed] == ["active", "revoked", "revoked", "active"]


@pytest.mark.parametrize("cursor", ["", "nothing", "org_01M82CZBDNTDTBGWDT4TW34HQ4", "key_1"])
async def test_a_cursor_that_is_no_key_is_400(bench: Bench, cursor: str) -> None:
    answer = await _code(bench, "GET", "/api_keys", params={"starting_after": cursor})
    assert answer == (400, "invalid_cursor")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api_keys/{}"), ("POST", "/api_keys/{}/rotate"), ("DELETE", "/api_keys/{}")],
)
async def test_another_organizations_key_is_like_an_unknown_one(bench: Bench, method: str, path: str) -> None:
    """Byte by byte; the demo key of the demo organization too."""
    admin = await bench.add_key("org_a")
    theirs = (await _create(bench))["id"]
    answers = [
        await bench.request(method, path.format(name), key=admin, json={}, headers={"x-request-id": "same"})
        for name in (UNKNOWN, theirs, "demo", "*", "a:b", "x" * 300)
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}
    assert answers[0].json()["error"]["code"] == "api_key_not_found"
    assert (await bench.request("GET", f"/api_keys/{theirs}")).json()["status"] == "active"


async def test_rotation_keeps_the_old_key_until_its_overlap_ends(bench: Bench) -> None:
    old = await _create(bench, scopes=["read"])
    response = await bench.request("POST", f"/api_keys/{old['id']}/rotate", json={"overlap_s": 600})
    new = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/api_keys/{new['id']}"
    assert response.headers["cache-control"] == "no-store"
    assert (new["name"], new["scopes"], new["expires_at"]) == ("ci", ["read"], None)
    assert new["id"] != old["id"]
    shown = (await bench.request("GET", f"/api_keys/{old['id']}")).json()
    assert shown["expires_at"] == new["created"] + 600
    assert (shown["status"], shown["replaced_by"]) == ("active", new["id"])
    assert await _opens(bench, old["key"])
    assert await _opens(bench, new["key"])
    await _expire(bench, old["id"])
    assert not await _opens(bench, old["key"])
    assert await _opens(bench, new["key"])


@pytest.mark.parametrize("options", [{}, {"json": {}}, {"content": b""}])
async def test_the_overlap_is_a_day_unless_it_is_given(bench: Bench, options: dict[str, Any]) -> None:
    """A body is not needed."""
    old = await _create(bench)
    new = (await bench.request("POST", f"/api_keys/{old['id']}/rotate", **options)).json()
    shown = (await bench.request("GET", f"/api_keys/{old['id']}")).json()
    assert shown["expires_at"] == new["created"] + 86_400


async def test_without_overlap_the_old_key_ends_at_once(bench: Bench) -> None:
    old = await _create(bench)
    await bench.request("POST", f"/api_keys/{old['id']}/rotate", json={"overlap_s": 0})
    assert not await _opens(bench, old["key"])


@pytest.mark.parametrize("overlap_s", [-1, 604_801, "60", 1.5, None])
async def test_an_overlap_outside_the_contract_is_400(bench: Bench, overlap_s: Any) -> None:
    old = await _create(bench)
    path = f"/api_keys/{old['id']}/rotate"
    assert await _code(bench, "POST", path, json={"overlap_s": overlap_s}) == (400, "invalid_request")


async def test_a_replacement_lives_as_long_as_the_key_was_made_to(bench: Bench) -> None:
    """A key of ten minutes does not become one for ever, and rotation does not make the old one live longer."""
    old = await _create(bench, expires_in_s=600)
    new = (await bench.request("POST", f"/api_keys/{old['id']}/rotate", json={})).json()
    assert new["expires_at"] == new["created"] + 600
    shown = (await bench.request("GET", f"/api_keys/{old['id']}")).json()
    assert shown["expires_at"] == old["expires_at"]


@pytest.mark.parametrize("ended", ["revoked", "expired"])
async def test_a_key_that_ended_is_not_rotated(bench: Bench, ended: str) -> None:
    old = await _create(bench)
    if ended == "revoked":
        await bench.request("DELETE", f"/api_keys/{old['id']}")
    else:
        await _expire(bench, old["id"])
    before = (await bench.request("GET", "/api_keys")).json()
    answer = await _code(bench, "POST", f"/api_keys/{old['id']}/rotate", json={})
    assert answer == (409, "api_key_not_active")
    assert (await bench.request("GET", "/api_keys")).json() == before


async def test_a_revoked_key_is_refused_and_revoking_again_changes_nothing(bench: Bench) -> None:
    created = await _create(bench)
    first = await bench.request("DELETE", f"/api_keys/{created['id']}")
    assert (first.status_code, first.json()["status"]) == (200, "revoked")
    assert set(first.json()) == FIELDS
    assert first.json()["revoked_at"] >= created["created"]
    assert not await _opens(bench, created["key"])
    await bench.services.store.redis.hset(keys.api_key(created["id"]), "revoked_at", "7")
    again = await bench.request("DELETE", f"/api_keys/{created['id']}")
    assert (again.status_code, again.json()["revoked_at"]) == (200, 7)


async def test_a_revocation_is_announced_to_every_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyring drops the key on the message: by its clock, which stands still, it would never look again."""
    monkeypatch.setattr(bench.services.keys, "_clock", lambda: 0.0)
    created = await _create(bench)

    async def status() -> int:
        response = await bench.request("GET", "/models", key=created["key"])
        return int(response.status_code)

    await until(bench.is_watching)
    assert await status() == 200
    await bench.request("DELETE", f"/api_keys/{created['id']}")

    async def is_refused() -> bool:
        return await status() == 401

    await until(is_refused)


async def test_a_revoked_key_makes_no_key_while_others_remember_it(bench: Bench) -> None:
    """Nobody announced the revocation, so for 5 s it goes on; what it made then would work for ever."""
    admin = await bench.add_key("org_a")
    own = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][0]["id"]
    calls = {
        "/api_keys": {"name": "x"},
        f"/api_keys/{own}/rotate": {},
        "/organizations": {"name": "x"},
    }
    await bench.services.store.redis.hset(keys.api_key(own), "revoked_at", "2")
    for path, body in calls.items():
        assert await _code(bench, "POST", path, key=admin, json=body) == (401, "invalid_api_key")
    assert len(await bench.services.api_keys.page("org_a", 10)) == 1


async def test_an_organization_keeps_one_admin_key(bench: Bench) -> None:
    admin = await bench.add_key("org_a")
    ((own,),) = [(await bench.request("GET", "/api_keys", key=admin)).json()["data"]]
    path = f"/api_keys/{own['id']}"
    assert await _code(bench, "DELETE", path, key=admin) == (409, "last_admin_key")
    await _create(bench, admin, scopes=["read"])
    assert await _code(bench, "DELETE", path, key=admin) == (409, "last_admin_key")
    await _create(bench, admin, scopes=["admin"], expires_in_s=600)
    assert await _code(bench, "DELETE", path, key=admin) == (409, "last_admin_key")
    other = await _create(bench, admin, scopes=["admin"])
    assert (await bench.request("DELETE", path, key=admin)).status_code == 200
    path = f"/api_keys/{other['id']}"
    assert await _code(bench, "DELETE", path, key=other["key"]) == (409, "last_admin_key")


@pytest.mark.parametrize("overlap_s", [0, 600])
async def test_a_key_that_ends_does_not_rotate_the_last_one_that_lasts(bench: Bench, overlap_s: int) -> None:
    """The new key would end with the caller's, and nobody could make another one after that."""
    admin = await bench.add_key("org_a")
    scopes = [str(scope) for scope in Scope]
    short = await _create(bench, admin, scopes=scopes, expires_in_s=1000)
    own = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][1]["id"]
    path, body = f"/api_keys/{own}/rotate", {"overlap_s": overlap_s}
    refused = await _code(bench, "POST", path, key=short["key"], json=body)
    assert refused == (409, "last_admin_key")
    assert await _opens(bench, admin)
    assert (
        await bench.request("POST", f"/api_keys/{short['id']}/rotate", key=short["key"])
    ).status_code == 201
    await _create(bench, admin, scopes=["admin"])
    rotated = await bench.request("POST", path, key=short["key"], json=body)
    assert (rotated.status_code, rotated.json()["expires_at"]) == (201, short["expires_at"])


async def test_of_two_admins_that_revoke_each_other_one_stays(bench: Bench) -> None:
    admin = await bench.add_key("org_a")
    other = await _create(bench, admin, scopes=["admin"])
    own = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][1]
    answers = await asyncio.gather(
        bench.request("DELETE", f"/api_keys/{own['id']}", key=other["key"]),
        bench.request("DELETE", f"/api_keys/{other['id']}", key=admin),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api_keys/demo/rotate"), ("DELETE", "/api_keys/demo")]
)
async def test_the_demo_key_stays_as_it_is(bench: Bench, method: str, path: str) -> None:
    """The documentation uses it; everybody knows it."""
    await _create(bench, scopes=["admin"])
    assert await _code(bench, method, path, json={}) == (409, "api_key_not_changeable")
    assert (await bench.request("GET", "/api_keys/demo")).json()["scopes"] == [str(scope) for scope in Scope]
