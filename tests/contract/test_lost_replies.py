"""Redis did what it was asked and its reply was lost: redis-py sends the call again, and the caller sees one call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.settings import Settings
from tests.support.api_bench import REGION, Bench, open_bench
from tests.support.lossy_redis import LossyRedis, lossy

pytestmark = pytest.mark.anyio

CREATIONS: dict[str, dict[str, Any]] = {
    "/files": {"content": b"text\nfine\n"},
    "/models": {"json": {"id": "m", "status": "training"}},
    "/deployments": {"json": {"model_uri": "models://digits", "region": REGION}},
    "/batch/digits": {"json": {"input_url": "https://example.com/rows.csv"}},
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[LossyRedis]:
    """What stands before the Redis of the bench."""
    async with lossy(redis_url) as (proxy, url):
        proxy.url = url  # type: ignore[attr-defined]
        yield proxy


@pytest.fixture
async def bench(settings: Settings, redis: LossyRedis) -> AsyncIterator[Bench]:
    """A platform behind it."""
    url = SecretStr(redis.url)  # type: ignore[attr-defined]
    async with open_bench(settings.model_copy(update={"redis_url": url})) as opened:
        yield opened


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}], ids=["without-key", "with-key"])
@pytest.mark.parametrize("path", CREATIONS)
async def test_a_creation_is_one_creation(
    bench: Bench, redis: LossyRedis, path: str, headers: dict[str, str]
) -> None:
    """Answered as one, not as a conflict with itself nor as a repetition; a true repetition is one."""
    await bench.add_model("digits")
    redis.lose_reply("create")
    response = await bench.request("POST", path, headers=headers, **CREATIONS[path])
    assert redis.lost == 1
    assert response.status_code in (201, 202), response.text
    assert "idempotent-replayed" not in response.headers
    found = await bench.request("GET", response.headers["location"])
    assert found.status_code == 200
    if headers:
        again = await bench.request("POST", path, headers=headers, **CREATIONS[path])
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == response.json()


async def test_the_content_of_the_file_stays(bench: Bench, redis: LossyRedis) -> None:
    """It is the file's, whatever became of the reply."""
    redis.lose_reply("create")
    file = (await bench.request("POST", "/files", content=b"rows")).json()
    assert redis.lost == 1
    assert (await bench.request("GET", f"/files/{file['id']}/content")).content == b"rows"


async def test_a_deletion_is_one_deletion(bench: Bench, redis: LossyRedis) -> None:
    """The file is gone, and so is its content; only a repetition by the caller is 404."""
    file = (await bench.request("POST", "/files", content=b"rows")).json()
    redis.lose_reply("delete_file")
    response = await bench.request("DELETE", f"/files/{file['id']}")
    assert redis.lost == 1
    assert response.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert list(bench.services.settings.files_dir.iterdir()) == []
    assert (await bench.request("DELETE", f"/files/{file['id']}")).status_code == 404


async def test_a_change_is_one_change(bench: Bench, redis: LossyRedis) -> None:
    """One event, one revision."""
    made = await bench.deploy("digits", org=DEMO_ORG)
    redis.lose_reply("transition_deployment")
    response = await bench.request("PATCH", f"/deployments/{made.id}", json={"replicas": 3})
    assert redis.lost == 1
    assert response.status_code == 200
    assert len(await bench.services.deployments.events(DEMO_ORG, made.id)) == 1
    found = await bench.services.deployments.get(DEMO_ORG, made.id)
    assert found is not None
    assert (found.replicas, found.revision) == (3, 1)


async def test_a_key_is_one_key(bench: Bench, redis: LossyRedis) -> None:
    """It works, and there is one of it; the rotated one as well."""
    redis.lose_reply("create_api_key")
    made = await bench.request("POST", "/api_keys", json={"name": "x", "expires_in_s": 60})
    redis.lose_reply("rotate_api_key")
    rotated = await bench.request("POST", f"/api_keys/{made.json()['id']}/rotate", json={})
    assert redis.lost == 2
    assert (made.status_code, rotated.status_code) == (201, 201)
    assert rotated.json()["expires_at"] == rotated.json()["created"] + 60
    listed = (await bench.request("GET", "/api_keys")).json()["data"]
    assert [key["id"] for key in listed] == [rotated.json()["id"], made.json()["id"], "demo"]


async def test_a_publication_is_one_publication(bench: Bench, redis: LossyRedis) -> None:
    """Answered as the first with its key, not as a repetition of itself."""
    await bench.request("POST", "/models", json={"id": "m", "status": "training"})
    redis.lose_reply("change_model")
    body = {"model_uri": "https://models.example/m.onnx", "idempotency_key": "k"}
    response = await bench.request("POST", "/models/m/publish", json=body)
    assert redis.lost == 1
    assert (response.status_code, "idempotent-replayed" in response.headers) == (200, False)
    assert [each.publication for each in await bench.services.models.preparing()] == [1]
