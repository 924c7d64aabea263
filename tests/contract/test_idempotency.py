"""Idempotency keys on `POST /batch/{model_id}` and `POST /deployments`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.store import keys
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

CALLS: dict[str, dict[str, Any]] = {
    "/batch/digits": {"input_url": "https://data.example/rows.csv"},
    "/deployments": {"model_uri": "models://digits", "region": "us-east-1"},
}
both = pytest.mark.parametrize("path", CALLS)


async def _post(bench: Bench, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return await bench.request("POST", path, json={**CALLS[path], **fields}, headers=headers or {})


async def _count(bench: Bench, path: str) -> int:
    listed = "/jobs" if path.startswith("/batch") else "/deployments"
    return len((await bench.request("GET", listed)).json()["data"])


@both
async def test_the_same_request_gets_the_first_answer_again(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    first = await _post(bench, path, idempotency_key="k")
    again = await _post(bench, path, idempotency_key="k")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert await _count(bench, path) == 1


@both
async def test_the_header_and_the_field_are_one_key(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    first = await _post(bench, path, idempotency_key="k")
    by_header = await _post(bench, path, {"Idempotency-Key": "k"})
    by_both = await _post(bench, path, {"Idempotency-Key": "k"}, idempotency_key="k")
    assert first.content == by_header.content == by_both.content


async def test_a_path_and_a_key_are_not_mixed_up(bench: Bench) -> None:
    """Though a colon stands in one or the other: the second request names a model that there is not."""
    await bench.add_model("digits")
    body = CALLS["/batch/digits"]
    first = await bench.request("POST", "/batch/digits", json=body, headers={"Idempotency-Key": "a:b"})
    other = await bench.request("POST", "/batch/digits:a", json=body, headers={"Idempotency-Key": "b"})
    assert (first.status_code, other.status_code) == (202, 404)


@both
async def test_two_different_keys_in_one_request_are_400(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    response = await _post(bench, path, {"Idempotency-Key": "a"}, idempotency_key="b")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


@both
@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_header_of_the_wrong_length_is_400(bench: Bench, path: str, key: str) -> None:
    await bench.add_model("digits")
    assert (await _post(bench, path, {"Idempotency-Key": key})).status_code == 400


@both
async def test_the_same_key_with_another_body_is_409(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    await _post(bench, path, idempotency_key="k")
    other = {"input_url": "https://data.example/other.csv"} if "batch" in path else {"replicas": 2}
    response = await _post(bench, path, idempotency_key="k", **other)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert await _count(bench, path) == 1


@both
async def test_a_key_of_a_refused_request_is_free_again(bench: Bench, path: str) -> None:
    refused = await _post(bench, path, idempotency_key="k")
    assert refused.status_code == 404
    await bench.add_model("digits")
    assert (await _post(bench, path, idempotency_key="k")).status_code in (201, 202)


@both
async def test_a_key_belongs_to_its_organization_and_path(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    mine = await _post(bench, path, idempotency_key="k")
    key = await bench.add_key("org_a")
    theirs = await bench.request("POST", path, key=key, json={**CALLS[path], "idempotency_key": "k"})
    assert theirs.json()["id"] != mine.json()["id"]
    other_path = next(name for name in CALLS if name != path)
    elsewhere = await _post(bench, other_path, idempotency_key="k")
    assert elsewhere.status_code in (201, 202)


@both
async def test_a_replay_succeeds_although_the_request_would_be_refused_by_now(
    bench: Bench, path: str
) -> None:
    await bench.add_model("digits")
    first = await _post(bench, path, idempotency_key="k")
    await bench.services.store.redis.hset(keys.model(PUBLIC_ORG, "digits"), "status", "archived")
    assert (await _post(bench, path, idempotency_key="k")).content == first.content
    assert (await _post(bench, path, idempotency_key="new")).status_code == 409


@both
async def test_sixty_four_at_once_make_one_object_and_equal_answers(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    answers = await asyncio.gather(*(_post(bench, path, idempotency_key="k") for _ in range(64)))
    assert len({answer.content for answer in answers}) == 1
    assert {answer.status_code for answer in answers} == {202 if "batch" in path else 201}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await _count(bench, path) == 1


@both
async def test_without_a_key_every_request_makes_an_object(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    await _post(bench, path)
    await _post(bench, path)
    assert await _count(bench, path) == 2


@both
async def test_a_key_beyond_ascii_is_one_key_in_field_and_header(bench: Bench, path: str) -> None:
    """In UTF-8, as most senders write it, and in Latin-1, as HTTP once had it."""
    await bench.add_model("digits")
    first = await _post(bench, path, idempotency_key="clé")
    for encoding in ("utf-8", "latin-1"):
        headers = [(b"idempotency-key", "clé".encode(encoding))]
        again = await bench.request("POST", path, json=CALLS[path], headers=headers)
        assert (again.status_code, again.content) == (first.status_code, first.content)


@both
async def test_a_key_is_measured_in_characters(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    for length, statuses in ((255, (201, 202)), (256, (400,))):
        headers = [(b"idempotency-key", ("é" * length).encode())]
        response = await bench.request("POST", path, json=CALLS[path], headers=headers)
        assert response.status_code in statuses


async def test_a_key_is_for_the_whole_path(bench: Bench) -> None:
    """What follows an escaped question mark belongs to it."""
    await bench.add_model("digits")
    headers, body = {"idempotency-key": "k"}, {"input_url": "https://example.com/rows.csv"}
    first = await bench.request("POST", "/batch/digits", json=body, headers=headers)
    other = await bench.request("POST", "/batch/digits%3Fx", json=body, headers=headers)
    assert (first.status_code, other.status_code) == (202, 404)
