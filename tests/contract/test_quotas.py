"""How much an organization may have, and what a key may make that will not work as long as it would."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fyretoolkit.core.api_keys import new_key
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.settings import QuotaSettings, Settings
from fyretoolkit.store import keys
from tests.support.api_bench import REGION, Bench
from tests.support.sentences import sentence

pytestmark = pytest.mark.anyio

LIMIT = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Three of each, thirty bytes of files."""
    quotas = QuotaSettings(
        api_keys=LIMIT, models=LIMIT, deployments=LIMIT, file_bytes=10 * LIMIT, queued_jobs=LIMIT
    )
    return settings.model_copy(update={"quotas": quotas})


async def _create(bench: Bench, resource: str, number: int, key: str) -> Any:
    if resource == "file_bytes":
        return await bench.request("POST", "/files", key=key, content=b"0123456789")
    if resource == "queued_jobs":
        body = {"input_url": "https://data.example/rows.jsonl"}
        return await bench.request("POST", "/batch/digits", key=key, json=body)
    body: dict[str, Any] = {
        "api_keys": {"name": "x"},
        "models": {"id": f"m{number}", "status": "training"},
        "deployments": {"model_uri": "models://digits", "region": REGION},
    }[resource]
    return await bench.request("POST", f"/{resource}", key=key, json=body)


@sentence("quotas-1", "quotas-2", "quotas-3", "quotas-4", "quotas-5", "quotas-6")
@pytest.mark.parametrize("resource", ["api_keys", "models", "deployments", "file_bytes", "queued_jobs"])
async def test_of_simultaneous_creations_as_many_succeed_as_are_allowed(bench: Bench, resource: str) -> None:
    """The others are told what limits them and leave nothing behind; another organization has its own."""
    await bench.add_model("digits")
    key, other = await bench.add_key("org_a"), await bench.add_key("org_b")
    is_there = 1 if resource == "api_keys" else 0
    answers = await asyncio.gather(*(_create(bench, resource, number, key) for number in range(2 * LIMIT)))
    refused = [each.json()["error"] for each in answers if each.status_code == 409]
    assert sum(each.status_code in (201, 202) for each in answers) == LIMIT - is_there
    assert len(refused) == LIMIT + is_there
    limit = 10 * LIMIT if resource == "file_bytes" else LIMIT
    for error in refused:
        assert (error["code"], error["details"]) == ("quota_exceeded", {"resource": resource, "limit": limit})
        assert str(limit) in error["message"]
    if resource == "file_bytes":
        assert len(list(bench.services.settings.files_dir.iterdir())) == LIMIT
    assert (await _create(bench, resource, 99, other)).status_code in (201, 202)


@sentence("quotas-6")
async def test_a_job_that_began_leaves_the_queue(bench: Bench) -> None:
    """There is room for another; so there is for one canceled."""
    await bench.add_model("digits")
    key = await bench.add_key("org_a")
    made = [(await _create(bench, "queued_jobs", 0, key)).json()["id"] for _ in range(LIMIT)]
    assert (await _create(bench, "queued_jobs", 0, key)).status_code == 409
    await bench.services.jobs.claim_run("org_a", made[0], lease_s=60)
    await bench.request("POST", f"/jobs/{made[1]}/cancel", key=key)
    answers = [(await _create(bench, "queued_jobs", 0, key)).status_code for _ in range(3)]
    assert answers == [202, 202, 409]


@pytest.mark.parametrize("resource", ["api_keys", "file_bytes"])
async def test_there_is_room_again_for_what_was_removed(bench: Bench, resource: str) -> None:
    key = await bench.add_key("org_a")
    path = "/files" if resource == "file_bytes" else "/api_keys"
    made = [await _create(bench, resource, 0, key) for _ in range(LIMIT)]
    assert (await _create(bench, resource, 0, key)).status_code == 409
    await bench.request("DELETE", f"{path}/{made[0].json()['id']}", key=key)
    assert (await _create(bench, resource, 0, key)).status_code == 201
    assert (await _create(bench, resource, 0, key)).status_code == 409


@sentence("quotas-4")
async def test_what_is_older_than_the_counts_counts_too(bench: Bench) -> None:
    """A home from before them: they are made once, from the records."""
    key = await bench.add_key("org_a")
    redis = bench.services.store.redis
    for resource, size in (("api_keys", LIMIT - 1), ("file_bytes", LIMIT)):
        for _ in range(size):
            assert (await _create(bench, resource, 0, key)).status_code == 201
    await redis.delete(keys.active_keys("org_a"), keys.file_sizes("org_a"))
    for resource in ("api_keys", "file_bytes"):
        assert (await _create(bench, resource, 0, key)).status_code == 409


async def test_a_rotation_needs_room_unless_the_old_key_stops_at_once(bench: Bench) -> None:
    """Keys that expired leave room as well as revoked ones."""
    key = await bench.add_key("org_a")
    made = [(await _create(bench, "api_keys", 0, key)).json()["id"] for _ in range(LIMIT - 1)]
    path = f"/api_keys/{made[0]}/rotate"
    refused = await bench.request("POST", path, key=key, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "quota_exceeded")
    rotated = await bench.request("POST", path, key=key, json={"overlap_s": 0})
    assert rotated.status_code == 201
    assert (await _create(bench, "api_keys", 0, key)).status_code == 409
    await bench.services.store.redis.zadd(keys.active_keys("org_a"), {made[1]: 1})
    assert (await _create(bench, "api_keys", 0, key)).status_code == 201


async def _expiring_admin(bench: Bench, ends: int) -> tuple[str, str]:
    """(key, id) of an admin key of `org_a` that ends then."""
    await bench.add_key("org_a")
    now = int(time.time())
    text, record = new_key("org_a", "short", Scope, created=now, lifetime_s=ends - now)
    await bench.services.api_keys.add(record)
    return text, record.id


@sentence("keys-19")
@pytest.mark.parametrize("asked_s", [None, 100_000, 10])
async def test_a_key_does_not_outlive_the_one_that_made_it(bench: Bench, asked_s: int | None) -> None:
    """Whatever is asked for; what ends before that stays as it is."""
    ends = int(time.time()) + 1000
    key, _ = await _expiring_admin(bench, ends)
    body = {"name": "x"} if asked_s is None else {"name": "x", "expires_in_s": asked_s}
    made = (await bench.request("POST", "/api_keys", key=key, json=body)).json()
    assert made["expires_at"] == (made["created"] + 10 if asked_s == 10 else ends)
    found = (await bench.request("GET", f"/api_keys/{made['id']}", key=key)).json()
    assert found["expires_at"] == made["expires_at"]


@sentence("keys-19")
async def test_nor_does_its_own_replacement(bench: Bench) -> None:
    """Or else whoever stole it would keep it alive for ever."""
    ends = int(time.time()) + 1000
    key, own = await _expiring_admin(bench, ends)
    made = (await bench.request("POST", f"/api_keys/{own}/rotate", key=key, json={})).json()
    assert made["expires_at"] == ends


@pytest.mark.parametrize("field", ["revoked_at", "expires_at"])
@pytest.mark.parametrize("path", ["/api_keys", "/api_keys/{}/rotate", "/organizations"])
async def test_a_key_that_ends_within_the_call_makes_no_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str, field: str
) -> None:
    """After every look at it, before the step that would write: that step looks as well."""
    admin = await bench.add_key("org_a")
    own = (await bench.request("GET", "/api_keys", key=admin)).json()["data"][0]["id"]
    store, run = bench.services.api_keys._store, bench.services.api_keys._store.run

    async def ending(script: str, *arguments: Any) -> Any:
        if script in ("create_api_key", "rotate_api_key"):
            await store.redis.hset(keys.api_key(own), field, "2")
        return await run(script, *arguments)

    monkeypatch.setattr(store, "run", ending)
    body = {} if "rotate" in path else {"name": "x"}
    target = "demo" if path == "/organizations" else own
    response = await bench.request("POST", path.format(target), key=admin, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(await bench.services.api_keys.page("org_a", 10)) == 1
    assert len(await bench.services.organizations.page(10)) == 2


async def test_a_platform_without_quotas_has_none(bench: Bench) -> None:
    """`null` in the settings."""
    await bench.add_model("digits")
    services = bench.services
    unlimited = QuotaSettings(api_keys=None, models=None, deployments=None, file_bytes=None, queued_jobs=None)
    object.__setattr__(services, "settings", services.settings.model_copy(update={"quotas": unlimited}))
    for number in range(LIMIT + 1):
        for resource in ("api_keys", "models", "file_bytes", "queued_jobs"):
            made = await _create(bench, resource, number, await bench.add_key(DEMO_ORG))
            assert made.status_code in (201, 202)
