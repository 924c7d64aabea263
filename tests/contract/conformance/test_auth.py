"""Authentication: who may ask, and that a refusal tells nobody more than it must."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import DEMO_KEY, Settings
from tests.support.api_bench import open_bench
from tests.support.conformance import (
    UNKNOWN_KEY,
    Caller,
    Organization,
    error_of,
    until_refused,
    without_request_id,
)
from tests.support.sentences import sentence


def basic(text: str) -> str:
    """An Authorization header of Basic."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def refused(caller: Caller, authorization: str | None) -> httpx.Response:
    """The 401 to this Authorization header."""
    headers = {"authorization": authorization} if authorization is not None else {}
    answer = caller.with_key(None).get("/models", headers=headers)
    error_of(answer, 401, "invalid_api_key")
    return answer


@sentence("auth-1", "auth-2")
def test_basic_and_bearer_are_the_same(org: Organization) -> None:
    """The key as username with an empty password, or as a token."""
    key = org.key["key"]
    for authorization in (basic(f"{key}:"), f"Bearer {key}"):
        answer = org.caller.with_key(None).get("/models", headers={"authorization": authorization})
        assert answer.status_code == 200


@sentence("auth-3")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models"), ("POST", "/predict/digits"), ("POST", "/deployments"), ("GET", "/jobs/job_x")],
)
def test_no_key(api: Caller, method: str, path: str) -> None:
    """Whatever is asked for, there or not."""
    error_of(api.request(method, path), 401, "invalid_api_key")


@sentence("auth-4")
@pytest.mark.parametrize(
    "form", ["{key}", "Basic {key}", "Basic !!!", "Basic", "Digest {key}", "Bearer", "Bearer {key} x", ""]
)
def test_a_malformed_header(org: Organization, form: str) -> None:
    """A valid key in a wrong form is no key."""
    refused(org.caller, form.format(key=org.key["key"]))


@sentence("auth-1")
def test_a_password_is_no_key(org: Organization) -> None:
    """The password is empty: a key beside a word, or in its place, is refused."""
    key = org.key["key"]
    for text in (f"{key}:password", f":{key}", key):
        refused(org.caller, basic(text))


@sentence("auth-5")
def test_an_unknown_key_and_another_secret(org: Organization) -> None:
    """The id alone opens nothing, and neither does half of a secret."""
    key: str = org.key["key"]
    other_secret = key[:-1] + ("A" if key[-1] != "A" else "B")
    for text in (UNKNOWN_KEY, other_secret, key[:-4], key + "x"):
        refused(org.caller, basic(f"{text}:"))


@sentence("auth-6", "auth-13")
def test_a_revoked_key_stops_within_5_s(org: Organization) -> None:
    """On whichever replica it was used a moment ago."""
    made = org.caller.made("/api_keys", {"name": "to be revoked"})
    caller = org.caller.with_key(made["key"])
    assert caller.get("/models").status_code == 200
    assert org.caller.delete(f"/api_keys/{made['id']}").status_code == 200
    until_refused(caller)


@sentence("auth-7")
def test_an_expired_key(org: Organization) -> None:
    """It works until then, and is then told the same as any other."""
    made = org.caller.made("/api_keys", {"name": "short", "expires_in_s": 1})
    answer = until_refused(org.caller.with_key(made["key"]))
    assert without_request_id(answer) == without_request_id(refused(org.caller, basic(f"{UNKNOWN_KEY}:")))


@sentence("auth-8", "auth-9")
def test_one_message_and_one_challenge_for_all(org: Organization) -> None:
    """Missing, malformed, unknown, revoked: nobody learns which it was."""
    revoked = org.caller.made("/api_keys", {"name": "revoked"})
    org.caller.delete(f"/api_keys/{revoked['id']}")
    until_refused(org.caller.with_key(revoked["key"]))
    forms = [None, "nonsense", basic(f"{UNKNOWN_KEY}:"), f"Bearer {UNKNOWN_KEY}", basic(f"{revoked['key']}:")]
    answers = [refused(org.caller, form) for form in forms]
    assert len({without_request_id(answer) for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Basic realm="FyreToolkit"'}


NEEDS = {
    "read": [("GET", "/models"), ("GET", "/jobs"), ("GET", "/deployments"), ("GET", "/files")],
    "predict": [("POST", "/predict/digits")],
    "write": [("POST", "/deployments"), ("POST", "/batch/digits"), ("POST", "/models"), ("POST", "/files")],
    "admin": [("GET", "/api_keys"), ("POST", "/api_keys")],
    "operator": [("GET", "/organizations"), ("POST", "/organizations")],
}


@sentence("auth-10")
@pytest.mark.parametrize("scope", ["read", "predict", "write", "admin"])
def test_a_key_without_the_scope(org: Organization, scope: str) -> None:
    """A key with one scope alone is refused everywhere else, and told which scope it lacks."""
    caller = org.scoped(scope)
    for needed, calls in NEEDS.items():
        for method, path in calls:
            answer = caller.request(method, path)
            if needed == scope:
                assert answer.status_code != 403, (method, path)
            else:
                assert needed in error_of(answer, 403, "insufficient_scope")["message"]


@sentence("auth-11")
def test_what_is_foreign_is_unknown(
    org: Organization, other: Organization, deployment: dict[str, Any], jobs: dict[str, dict[str, Any]]
) -> None:
    """Byte by byte, for each kind of object and everything that can be done with it."""
    job, file = jobs["rows"]["id"], org.caller.upload(b"mine", "mine.txt").rpartition("/")[2]
    unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    calls: list[tuple[str, str, str, Any]] = [
        ("GET", f"/deployments/{deployment['id']}", f"/deployments/dep_{unknown}", None),
        ("DELETE", f"/deployments/{deployment['id']}", f"/deployments/dep_{unknown}", None),
        ("PATCH", f"/deployments/{deployment['id']}", f"/deployments/dep_{unknown}", {"replicas": 2}),
        ("POST", f"/deployments/{deployment['id']}/promote", f"/deployments/dep_{unknown}/promote", None),
        ("POST", f"/deployments/{deployment['id']}/rollback", f"/deployments/dep_{unknown}/rollback", None),
        ("GET", f"/metrics/{deployment['id']}", f"/metrics/dep_{unknown}", None),
        ("GET", f"/models/{deployment['model']}", "/models/unknown", None),
        ("POST", f"/models/{deployment['model']}/archive", "/models/unknown/archive", None),
        ("POST", f"/predict/{deployment['model']}", "/predict/unknown", {"inputs": [1]}),
        ("POST", f"/batch/{deployment['model']}", "/batch/unknown", {"input_url": "https://a.example/a.csv"}),
        ("GET", f"/jobs/{job}", f"/jobs/job_{unknown}", None),
        ("GET", f"/jobs/{job}/output", f"/jobs/job_{unknown}/output", None),
        ("GET", f"/jobs/{job}/errors", f"/jobs/job_{unknown}/errors", None),
        ("POST", f"/jobs/{job}/cancel", f"/jobs/job_{unknown}/cancel", None),
        ("GET", f"/files/{file}", f"/files/file_{unknown}", None),
        ("GET", f"/files/{file}/content", f"/files/file_{unknown}/content", None),
        ("DELETE", f"/files/{file}", f"/files/file_{unknown}", None),
        ("GET", f"/api_keys/{org.key['id']}", f"/api_keys/key_{unknown}", None),
        ("POST", f"/api_keys/{org.key['id']}/rotate", f"/api_keys/key_{unknown}/rotate", {}),
        ("DELETE", f"/api_keys/{org.key['id']}", f"/api_keys/key_{unknown}", None),
    ]
    for method, mine, nobodys, body in calls:
        foreign, missing = (
            other.caller.request(method, path, **({"json": body} if body is not None else {}))
            for path in (mine, nobodys)
        )
        assert (foreign.status_code, missing.status_code) == (404, 404), (method, mine, foreign.text)
        assert without_request_id(foreign) == without_request_id(missing), (method, mine)
    assert org.caller.get(f"/files/{file}").status_code == 200


@sentence("auth-12")
def test_the_form_of_a_key(org: Organization) -> None:
    """The id within it is the id of the resource; the secret is of 192 bits at least."""
    key_id, secret = re.fullmatch(r"sk_live_(key_[0-9A-HJKMNP-TV-Z]{26})_(\S+)", org.key["key"]).groups()  # type: ignore[union-attr]
    assert key_id == org.key["id"]
    assert len(secret) >= 32


@sentence("auth-14")
def test_the_demo_key_of_the_quickstart(api: Caller) -> None:
    """`curl -u sk_live_demo_12345: …/models`, and a call for each other scope."""
    demo = api.with_key("sk_live_demo_12345")
    assert demo.read("/models")["data"]
    assert demo.read("/models/sentiment-v1")["id"] == "sentiment-v1"  # others' tests may fill the first page
    for calls in NEEDS.values():
        for method, path in calls:
            assert demo.request(method, path).status_code not in (401, 403)


@sentence("auth-15")
@pytest.mark.anyio
async def test_the_demo_key_does_not_exist_in_production(settings: Settings) -> None:
    """Even if a development Redis with its record is taken over."""
    production = settings.model_copy(update={"mode": "production"})
    async with open_bench(production) as bench:
        answer = await bench.request("GET", "/models", key=DEMO_KEY)
        assert answer.status_code == 401
