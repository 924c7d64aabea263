"""Idempotency: the same POST again is the first one's answer again."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.api_bench import Bench
from tests.support.conformance import REGION, UNKNOWN_KEY, Caller, Organization, error_of, fields_of
from tests.support.platform import until
from tests.support.sentences import sentence

DAY_S = 86_400
CLIENTS = 64
PATHS = ["/batch/digits", "/deployments", "/models"]

Post = Callable[..., httpx.Response]


def body_for(path: str, **fields: Any) -> dict[str, Any]:
    """A body that is accepted and soon comes to nothing."""
    if path == "/deployments":
        return {"model_uri": "file:///not-here/a.onnx", "region": REGION, **fields}
    if path == "/models":
        return {"id": f"m-{secrets.token_hex(6)}", "status": "training", **fields}
    return {"input_url": "file:///not-here/a.csv", **fields}


def new_key() -> str:
    """A key that no test used."""
    return secrets.token_hex(8)


def is_first(answer: httpx.Response) -> bool:
    """Whether this is the answer to a creation, not a repetition of one."""
    assert answer.status_code in (201, 202), answer.text
    return "idempotent-replayed" not in answer.headers


def assert_replay(first: httpx.Response, again: httpx.Response) -> None:
    """Status, body and Location of the first answer, and the mark."""
    assert is_first(first)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"


@sentence("idem-1", "idem-6")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", ["header", "body"])
def test_the_first_answer_again(caller: Caller, path: str, where: str) -> None:
    """For each operation, whichever way the key came."""
    key, body = new_key(), body_for(path)
    if where == "body":
        first, again = (caller.post(path, {**body, "idempotency_key": key}) for _ in range(2))
    else:
        first, again = (caller.post(path, body, headers={"idempotency-key": key}) for _ in range(2))
    assert_replay(first, again)


@sentence("idem-1", "idem-6")
def test_the_first_file_again(caller: Caller) -> None:
    """By header alone, over name and content."""
    options: dict[str, Any] = {
        "content": b"a,b\n1,2\n",
        "params": {"filename": "a.csv"},
        "headers": {"content-type": "text/csv", "idempotency-key": new_key()},
    }
    first, again = (caller.post("/files", **options) for _ in range(2))
    assert_replay(first, again)
    error_of(caller.post("/files", **{**options, "content": b"other"}), 409, "idempotency_key_reused")


@sentence("idem-2")
def test_header_and_body(caller: Caller) -> None:
    """One key in both places counts once; two different ones are a mistake."""
    key = new_key()
    body = body_for("/batch/digits", idempotency_key=key)
    first, again = (caller.post("/batch/digits", body, headers={"idempotency-key": key}) for _ in range(2))
    assert_replay(first, again)
    differing = caller.post("/batch/digits", body, headers={"idempotency-key": key + "x"})
    assert fields_of(differing) == ["idempotency_key"]


@sentence("idem-3")
@pytest.mark.parametrize("path", PATHS)
def test_length(caller: Caller, path: str) -> None:
    """1 to 255 characters, in the header and in the body."""
    longest = new_key().ljust(255, "k")
    assert is_first(caller.post(path, body_for(path), headers={"idempotency-key": longest}))
    for key in ("", "k" * 256):
        assert fields_of(caller.post(path, body_for(path, idempotency_key=key))) == ["idempotency_key"]
        refused = caller.post(path, body_for(path), headers={"idempotency-key": key})
        assert fields_of(refused) == ["Idempotency-Key"]


@sentence("idem-4")
@pytest.mark.anyio
async def test_kept_for_a_day(bench: Bench) -> None:
    """The stored answer expires 24 h after the first call."""
    await bench.create_deployment(model_uri="https://a.example/a.onnx", idempotency_key="kept")
    redis = bench.services.store.redis
    (name,) = [key async for key in redis.scan_iter("*idempotency*kept*")]
    assert DAY_S - 60 <= await redis.ttl(name) <= DAY_S


@sentence("idem-5")
def test_scope(org: Organization, other: Organization) -> None:
    """Another path, another organization: another key."""
    key = {"idempotency-key": new_key()}
    body = body_for("/batch/digits")
    assert is_first(org.caller.post("/batch/digits", body, headers=key))
    assert is_first(org.caller.post("/batch/sentiment-v1", body, headers=key))
    assert is_first(org.caller.post("/deployments", body_for("/deployments"), headers=key))
    assert is_first(other.caller.post("/batch/digits", body, headers=key))


@sentence("idem-5")
def test_two_keys_of_one_organization(org: Organization) -> None:
    """The organization counts, not the API key: a repetition may come from another machine."""
    options = {"headers": {"idempotency-key": new_key()}}
    body = body_for("/batch/digits")
    first = org.caller.post("/batch/digits", body, **options)
    assert_replay(first, org.scoped("write").post("/batch/digits", body, **options))


@sentence("idem-7")
@pytest.mark.parametrize("path", PATHS)
def test_another_body(caller: Caller, path: str) -> None:
    """Refused; the first answer is still there."""
    key = {"idempotency-key": new_key()}
    body = body_for(path)
    first = caller.post(path, body, headers=key)
    error_of(caller.post(path, body_for(path, **OTHER[path]), headers=key), 409, "idempotency_key_reused")
    assert_replay(first, caller.post(path, body, headers=key))


OTHER = {
    "/batch/digits": {"input_url": "file:///not-here/b.csv"},
    "/deployments": {"replicas": 2},
    "/models": {"description": "another"},
}


@sentence("idem-8")
def test_a_refused_call_leaves_the_key_free(caller: Caller) -> None:
    """After 400, 401, 404, 409 and 422 the corrected call creates."""
    key = {"idempotency-key": new_key()}
    body = body_for("/deployments")
    refusals: list[tuple[int, Caller, dict[str, Any]]] = [
        (400, caller, {**body, "replicas": 0}),
        (401, caller.with_key(UNKNOWN_KEY), body),
        (404, caller, {**body, "model_uri": "models://not-here"}),
        (422, caller, {**body, "region": "mars"}),
        (422, caller, {**body, "model_uri": "ftp://a.example/a.onnx"}),
    ]
    for status, by, refused in refusals:
        assert by.post("/deployments", refused, headers=key).status_code == status
    assert is_first(caller.post("/deployments", body, headers=key))


@sentence("idem-8")
def test_a_call_above_the_limit_leaves_the_key_free(new_org: Callable[..., Organization]) -> None:
    """429, then the same call after the wait."""
    caller = new_org("free").caller
    key, body = {"idempotency-key": new_key()}, body_for("/models")
    with ThreadPoolExecutor(4) as threads:
        assert 429 in threads.map(lambda _: caller.delete("/files/file_x").status_code, range(70))
    refused = caller.post("/models", body, headers=key)
    assert refused.status_code == 429

    def accepted() -> httpx.Response | None:
        answer = caller.post("/models", body, headers=key)
        return answer if answer.status_code != 429 else None

    answer = until(accepted, timeout_s=int(refused.headers["retry-after"]) + 30, what="the limit's end")
    assert is_first(answer)


@sentence("idem-9")
@pytest.mark.parametrize("path", ["/batch/digits", "/models"])
def test_64_at_once(caller: Caller, path: str) -> None:
    """One object, 64 equal answers, one of them the first."""
    key, body = {"idempotency-key": new_key()}, body_for(path)
    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = list(threads.map(lambda _: caller.post(path, body, headers=key), range(CLIENTS)))
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert sum(is_first(answer) for answer in answers) == 1
    listed = caller.read(path if path == "/models" else "/jobs", params={"limit": 100})["data"]
    assert [each["id"] for each in listed].count(answers[0].json()["id"]) == 1
