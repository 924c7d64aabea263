"""API keys and organizations: made, shown once, rotated, revoked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.conformance import EFFECTIVE_S, Caller, Organization, error_of, fields_of, until_refused
from tests.support.platform import until
from tests.support.sentences import sentence

KEY_FIELDS = {
    "id", "object", "name", "scopes", "organization", "masked", "status", "created", "expires_at", "revoked_at",
    "replaced_by",
}  # fmt: skip
ALL = {"read", "predict", "write", "admin"}


def new_key(caller: Caller, **fields: Any) -> dict[str, Any]:
    """A new key, secret included."""
    return caller.made("/api_keys", {"name": "test", **fields})


@sentence("keys-1", "keys-2", "keys-3", "keys-4", "keys-7")
def test_a_key_is_shown_whole_once(org: Organization) -> None:
    """With every field; later only its mask."""
    made = new_key(org.caller, expires_in_s=3600)
    secret = made.pop("key")
    assert made.keys() == KEY_FIELDS
    assert (made["object"], made["name"], made["organization"]) == ("api_key", "test", org.id)
    assert set(made["scopes"]) == {"read", "predict", "write"}
    assert (made["status"], made["revoked_at"], made["replaced_by"]) == ("active", None, None)
    assert made["expires_at"] == made["created"] + 3600
    assert made["masked"] == f"sk_live_{made['id']}_****{secret[-4:]}"
    found = org.caller.read(f"/api_keys/{made['id']}")
    assert {**found, "key": None} == {**made, "key": None}
    listed = org.caller.get("/api_keys", params={"limit": 100})
    assert secret not in listed.text
    assert org.key["key"] not in listed.text


@sentence("keys-2")
def test_scopes_are_chosen(org: Organization) -> None:
    """And a scope that there is none is a 400 that names the field."""
    assert new_key(org.caller, scopes=["read"])["scopes"] == ["read"]
    refused = org.caller.post("/api_keys", {"name": "x", "scopes": ["fly"]})
    assert fields_of(refused)[0].startswith("scopes")
    assert fields_of(org.caller.post("/api_keys", {})) == ["name"]


@sentence("keys-5")
def test_nobody_hands_out_more_than_they_have(org: Organization) -> None:
    """An admin key without write cannot make one with it; none but an operator makes an operator."""
    admin = org.scoped("admin", "read")
    error_of(admin.post("/api_keys", {"name": "x", "scopes": ["write"]}), 403, "insufficient_scope")
    error_of(org.caller.post("/api_keys", {"name": "x", "scopes": ["operator"]}), 403, "insufficient_scope")


@sentence("keys-6")
def test_the_list_has_revoked_keys_too(fresh: Organization) -> None:
    """Newest first."""
    made = [new_key(fresh.caller, name=f"k{number}")["id"] for number in range(3)]
    fresh.caller.delete(f"/api_keys/{made[1]}")
    listed = fresh.caller.read("/api_keys")["data"]
    assert [key["id"] for key in listed] == [*reversed(made), fresh.key["id"]]
    assert [key["status"] for key in listed] == ["active", "revoked", "active", "active"]


@sentence("keys-8", "keys-9")
def test_rotation_overlaps(org: Organization) -> None:
    """Both keys work, the old one until a day from now."""
    old = new_key(org.caller, name="rotating", scopes=["read", "predict"])
    before = time.time()
    answer = org.caller.post(f"/api_keys/{old['id']}/rotate", {})
    assert answer.status_code == 201
    new = answer.json()
    assert new["id"] != old["id"]
    assert answer.headers["location"] == f"/api_keys/{new['id']}"
    assert (new["name"], new["scopes"], new["expires_at"]) == (old["name"], old["scopes"], None)
    found = org.caller.read(f"/api_keys/{old['id']}")
    assert (found["replaced_by"], found["status"]) == (new["id"], "active")
    assert before + 86_400 - 2 <= found["expires_at"] <= time.time() + 86_400 + 2
    for key in (old, new):
        assert org.caller.with_key(key["key"]).get("/models").status_code == 200


@sentence("keys-10")
def test_rotation_without_overlap(org: Organization) -> None:
    """The old key stops, the new one works; an overlap of more than a week is refused."""
    old = new_key(org.caller)
    for overlap in (-1, 604_801, "1"):
        refused = org.caller.post(f"/api_keys/{old['id']}/rotate", {"overlap_s": overlap})
        assert fields_of(refused) == ["overlap_s"]
    new = org.caller.made(f"/api_keys/{old['id']}/rotate", {"overlap_s": 0})
    until_refused(org.caller.with_key(old["key"]))
    assert org.caller.with_key(new["key"]).get("/models").status_code == 200


@sentence("keys-11")
def test_an_ended_key_is_not_rotated(org: Organization) -> None:
    """Neither a revoked nor an expired one."""
    revoked, expired = new_key(org.caller), new_key(org.caller, expires_in_s=1)
    org.caller.delete(f"/api_keys/{revoked['id']}")
    until_refused(org.caller.with_key(expired["key"]))
    for key in (revoked, expired):
        error_of(org.caller.post(f"/api_keys/{key['id']}/rotate", {}), 409, "api_key_not_active")


@sentence("keys-12")
def test_revoking_twice_is_revoking_once(org: Organization) -> None:
    """The second answer is the first one's."""
    made = new_key(org.caller)
    first, second = (org.caller.delete(f"/api_keys/{made['id']}") for _ in range(2))
    assert (first.status_code, first.json()) == (200, second.json())
    assert first.json()["status"] == "revoked"
    assert abs(first.json()["revoked_at"] - time.time()) < 60
    assert "key" not in {name for name, value in first.json().items() if value}


@sentence("keys-13")
def test_the_last_admin_key_stays(fresh: Organization) -> None:
    """Else nobody could make a key any more; with a second one the first may go."""
    error_of(fresh.caller.delete(f"/api_keys/{fresh.key['id']}"), 409, "last_admin_key")
    second = new_key(fresh.caller, scopes=["admin"])
    assert fresh.caller.delete(f"/api_keys/{second['id']}").status_code == 200
    error_of(fresh.caller.delete(f"/api_keys/{fresh.key['id']}"), 409, "last_admin_key")


@sentence("keys-14")
def test_the_demo_key_stays(operator: Caller) -> None:
    """It is in the documentation: it can be neither rotated nor revoked."""
    (demo,) = (
        key for key in operator.read("/api_keys", params={"limit": 100})["data"] if key["id"] == "demo"
    )
    error_of(operator.post(f"/api_keys/{demo['id']}/rotate", {}), 409, "api_key_not_changeable")
    error_of(operator.delete(f"/api_keys/{demo['id']}"), 409, "api_key_not_changeable")
    assert operator.get("/models").status_code == 200


@sentence("keys-15")
def test_keys_need_scope_admin(org: Organization) -> None:
    """All five calls."""
    caller = org.scoped("read", "write", "predict")
    one = f"/api_keys/{org.key['id']}"
    for method, path in [
        ("GET", "/api_keys"), ("POST", "/api_keys"), ("GET", one), ("DELETE", one), ("POST", f"{one}/rotate"),
    ]:  # fmt: skip
        error_of(caller.request(method, path, json={}), 403, "insufficient_scope")


@sentence("keys-16")
def test_an_unknown_key_id(org: Organization, other: Organization) -> None:
    """Unknown, misshapen, foreign: one code."""
    for name in ("key_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense", other.key["id"]):
        error_of(org.caller.get(f"/api_keys/{name}"), 404, "api_key_not_found")


@sentence("keys-17")
def test_no_idempotency_for_keys(org: Organization) -> None:
    """Two POSTs make two keys; the field is unknown."""
    header = {"idempotency-key": "once"}
    made = [org.caller.made("/api_keys", {"name": "x"}, headers=header)["id"] for _ in range(2)]
    assert made[0] != made[1]
    assert fields_of(org.caller.post("/api_keys", {"name": "x", "idempotency_key": "k"})) == [
        "idempotency_key"
    ]


@sentence("keys-18")
def test_the_command_line(fresh: Organization, api_url: str) -> None:
    """create, list, rotate, revoke over HTTP; `--json` is the API's answer."""

    def fyre(*arguments: str) -> Any:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from fyretoolkit.cli.main import main; main()",
                "keys",
                *arguments,
                "--json",
            ],
            env={**os.environ, "FYRE_API_KEY": fresh.key["key"], "FYRE_BASE_URL": api_url, "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    made = fyre("create", "laptop")
    assert fresh.caller.with_key(made["key"]).get("/models").status_code == 200
    rotated = fyre("rotate", made["id"])
    revoked = fyre("revoke", made["id"])
    assert (revoked["id"], revoked["status"]) == (made["id"], "revoked")
    listed = fyre("list")
    found = listed["data"] if isinstance(listed, dict) else listed
    assert {rotated["id"], made["id"], fresh.key["id"]} <= {key["id"] for key in found}


@sentence("orgs-1", "orgs-2", "orgs-3")
def test_an_organization_comes_with_its_first_key(operator: Caller) -> None:
    """Shown once; later `api_key` is null."""
    answer = operator.post("/organizations", {"name": "acme"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/organizations/{made['id']}"
    assert made.keys() == {"id", "object", "name", "plan", "created", "api_key"}
    assert (made["object"], made["name"], made["plan"]) == ("organization", "acme", "free")
    assert set(made["api_key"]["scopes"]) == ALL
    assert operator.with_key(made["api_key"]["key"]).get("/models").status_code == 200
    found = operator.read(f"/organizations/{made['id']}")
    assert found == {**made, "api_key": None}
    listed = operator.get("/organizations", params={"limit": 100})
    assert made["id"] in [each["id"] for each in listed.json()["data"]]
    assert "sk_live_" not in listed.text


@sentence("orgs-4")
def test_an_organization_is_changed(operator: Caller, fresh: Organization) -> None:
    """Name and plan, each alone; nothing at all is a mistake."""
    path = f"/organizations/{fresh.id}"
    assert operator.patch(path, {"name": "renamed"}).json()["name"] == "renamed"
    changed = operator.patch(path, {"plan": "pro"})
    assert (changed.status_code, changed.json()["name"], changed.json()["plan"]) == (200, "renamed", "pro")
    error_of(operator.patch(path, {}), 400, "invalid_request")


@sentence("orgs-5")
def test_an_unknown_plan(operator: Caller, fresh: Organization) -> None:
    """The answer names the plans there are."""
    for answer in (
        operator.post("/organizations", {"name": "x", "plan": "gold"}),
        operator.patch(f"/organizations/{fresh.id}", {"plan": "gold"}),
    ):
        details = error_of(answer, 422, "invalid_plan")["details"]
        assert {"free", "pro", "development", "unlimited"} <= set(details["plans"])


@sentence("orgs-6")
def test_a_change_of_plan_is_effective(operator: Caller, new_org: Callable[..., Organization]) -> None:
    """Within 5 s the predictions' limit is the new plan's."""
    made = new_org("free")

    def inference_limit() -> str | None:
        return made.caller.post("/predict/digits", {}).headers.get("x-ratelimit-limit")

    assert inference_limit() == "600"
    operator.patch(f"/organizations/{made.id}", {"plan": "pro"})
    until(lambda: inference_limit() == "60000", timeout_s=EFFECTIVE_S, what="the new plan")


@sentence("orgs-7")
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PATCH", "/{id}")]
)
def test_organizations_need_scope_operator(org: Organization, method: str, path: str) -> None:
    """An admin key is not enough, not even for its own organization."""
    answer = org.caller.request(method, "/organizations" + path.format(id=org.id), json={"name": "x"})
    error_of(answer, 403, "insufficient_scope")


@sentence("orgs-8")
def test_an_unknown_organization(operator: Caller) -> None:
    """Reading and changing it."""
    for name in ("org_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"):
        error_of(operator.get(f"/organizations/{name}"), 404, "organization_not_found")
        error_of(operator.patch(f"/organizations/{name}", {"name": "x"}), 404, "organization_not_found")
