"""`/organizations`: for whoever runs the platform."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.api.auth import authenticate
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from tests.support.api_bench import Bench, until

pytestmark = pytest.mark.anyio

UNKNOWN = "org_01M82CZBDNTDTBGWDT4TW34HQ4"


async def _create(bench: Bench, **fields: Any) -> dict[str, Any]:
    response = await bench.request("POST", "/organizations", json={"name": "Acme", **fields})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def _plan_of(bench: Bench, key: str) -> str:
    headers = [(b"authorization", f"Bearer {key}".encode())]
    return (await authenticate(headers, bench.services.keys, Scope.READ)).plan


async def test_a_new_organization_comes_with_its_first_key(bench: Bench) -> None:
    response = await bench.request("POST", "/organizations", json={"name": "Acme"})
    created = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/organizations/{created['id']}"
    assert response.headers["cache-control"] == "no-store"
    assert set(created) == {"id", "object", "name", "plan", "created", "api_key"}
    assert (created["object"], created["name"], created["plan"]) == ("organization", "Acme", "free")
    key = created["api_key"]
    assert (key["organization"], key["scopes"]) == (created["id"], ["read", "predict", "write", "admin"])
    listed = await bench.request("GET", "/api_keys", key=key["key"])
    assert [each["id"] for each in listed.json()["data"]] == [key["id"]]
    assert await _plan_of(bench, key["key"]) == "free"
    shown = (await bench.request("GET", response.headers["location"])).json()
    assert shown == {**created, "api_key": None}


async def test_a_plan_is_one_of_those_configured(bench: Bench) -> None:
    created = await _create(bench, plan="pro")
    assert created["plan"] == "pro"
    path = f"/organizations/{created['id']}"
    for method, target in (("POST", "/organizations"), ("PATCH", path)):
        response = await bench.request(method, target, json={"name": "x", "plan": "gold"})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (422, "invalid_plan")
        assert error["details"]["plans"] == ["free", "pro", "development", "unlimited"]
    assert (await bench.request("GET", path)).json()["name"] == "Acme"


async def test_a_change_of_plan_reaches_the_keys_of_the_organization(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is announced: by the keyring's clock, which stands still, no key would be looked up again."""
    monkeypatch.setattr(bench.services.keys, "_clock", lambda: 0.0)
    created = await _create(bench)
    key = created["api_key"]["key"]
    await until(bench.is_watching)
    assert await _plan_of(bench, key) == "free"
    response = await bench.request("PATCH", f"/organizations/{created['id']}", json={"plan": "pro"})
    assert (response.status_code, response.json()) == (200, {**created, "plan": "pro", "api_key": None})

    async def is_changed() -> bool:
        return await _plan_of(bench, key) == "pro"

    await until(is_changed)


async def test_a_name_is_changed_alone(bench: Bench) -> None:
    created = await _create(bench, plan="pro")
    response = await bench.request("PATCH", f"/organizations/{created['id']}", json={"name": "Acme Ltd"})
    assert (response.json()["name"], response.json()["plan"]) == ("Acme Ltd", "pro")


@pytest.mark.parametrize(
    "body", [{}, {"name": None}, {"name": ""}, {"nam": "x"}, {"plan": 1}, {"name": "a\tb"}]
)
async def test_a_change_outside_the_contract_is_400(bench: Bench, body: dict[str, Any]) -> None:
    response = await bench.request("PATCH", f"/organizations/{DEMO_ORG}", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("name", [UNKNOWN, "org_public", "nothing", "*", "a:b"])
async def test_an_unknown_organization_is_404(bench: Bench, method: str, name: str) -> None:
    response = await bench.request(method, f"/organizations/{name}", json={"plan": "pro"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "organization_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/organizations"),
        ("GET", "/organizations"),
        ("GET", f"/organizations/{DEMO_ORG}"),
        ("PATCH", f"/organizations/{DEMO_ORG}"),
    ],
)
async def test_organizations_are_managed_by_operators_alone(bench: Bench, method: str, path: str) -> None:
    """An admin is one of their own organization."""
    admin = await bench.add_key("org_a", *(scope for scope in Scope if scope is not Scope.OPERATOR))
    response = await bench.request(method, path, key=admin, json={})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_pages_are_newest_first_and_hold_every_organization_once(bench: Bench) -> None:
    """The demo organization, whose id is no ULID, where its creation puts it."""
    made = [(await _create(bench, name=f"org {number}"))["id"] for number in range(4)]
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await bench.request("GET", "/organizations", params=query)).json()
        seen += page["data"]
        if not page["has_more"]:
            break
        query["starting_after"] = seen[-1]["id"]
    assert [each["id"] for each in seen] == [*reversed(made), DEMO_ORG]
    assert {each["api_key"] for each in seen} == {None}
    last = await bench.request("GET", "/organizations", params={"starting_after": DEMO_ORG})
    assert last.json() == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize("cursor", ["", "org_public", "key_01M82CZBDNTDTBGWDT4TW34HQ4", "a:b"])
async def test_a_cursor_that_is_no_organization_is_400(bench: Bench, cursor: str) -> None:
    response = await bench.request("GET", "/organizations", params={"starting_after": cursor})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_cursor")
