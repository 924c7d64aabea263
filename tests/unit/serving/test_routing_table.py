"""The routing table over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.serving.codecs import CodecCache
from fyretoolkit.serving.routing import RoutingTable
from fyretoolkit.settings import Settings
from tests.support.api_bench import Bench, open_bench

pytestmark = pytest.mark.anyio
_LIMIT_S = 60
_TAKING = (DeploymentStatus.READY, DeploymentStatus.DEGRADED)


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def bench(tmp_path: Path, redis_url: str) -> AsyncIterator[Bench]:
    """A platform whose table is watched, as in an ingress replica."""
    async with open_bench(Settings(home=tmp_path, redis_url=SecretStr(redis_url))) as opened:
        yield opened


async def _until(is_so: Callable[[], bool]) -> None:
    """Waits for what another task is to bring about."""
    async with asyncio.timeout(_LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - the task under test has no event to wait for
            await asyncio.sleep(0.01)


def _unwatched(bench: Bench) -> RoutingTable:
    """A second table over the same Redis, empty, that nobody keeps fresh."""
    services = bench.services
    codecs = CodecCache(ArtifactStore(services.settings.artifacts_dir))
    return RoutingTable(
        services.store, services.deployments, services.models, codecs, on_renewed=bench.call.forget
    )


async def test_a_route_has_the_batch_size_that_was_found_where_the_deployment_runs(bench: Bench) -> None:
    """Until something was found it has the spec's."""
    found = {"max_batch_size": 5, "reason": "measured", "rows_per_s": {}, "max_difference": 0.0}
    for org, batching, size in (("org_a", found, 5), ("org_b", None, 64)):
        await bench.deploy("digits", org=org, batching=batching)
        assert (await bench.services.routes.route(org, "digits")).max_batch_size == size


async def test_the_watch_brings_a_change_without_being_asked(bench: Bench) -> None:
    table = bench.services.routes
    await bench.deploy("digits", org="org_a")
    other = await bench.add_deployment("sentiment-v1", org="org_a")
    await _until(lambda: [each.id for each in table.deployments_of("org_a", "sentiment-v1")] == [other.id])
    await bench.services.deployments.transition(other, DeploymentStatus.DRAINING, message="Gone.")
    await _until(lambda: table.deployments_of("org_a", "sentiment-v1")[0].status is DeploymentStatus.DRAINING)


async def test_the_watch_survives_an_outage_and_the_snapshot_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = bench.services.routes
    first = await bench.deploy("digits", org="org_a")
    failures = 0

    async def refuse(*_: object, **__: object) -> None:
        nonlocal failures
        failures += 1
        raise RedisConnectionError

    with monkeypatch.context() as outage:
        outage.setattr(bench.services.store.redis, "execute_command", refuse)
        await _until(lambda: failures >= 2)
        assert (await table.route("org_a", "digits")).deployment == first.id
    later = await bench.add_deployment("sentiment-v1", org="org_a")
    await _until(lambda: [each.id for each in table.deployments_of("org_a", "sentiment-v1")] == [later.id])


async def test_the_own_model_shadows_the_public_one(bench: Bench) -> None:
    public = await bench.deploy("digits", org=PUBLIC_ORG)
    own = await bench.deploy("digits", org="org_a")
    assert (await bench.services.routes.route("org_a", "digits")).deployment == own.id
    assert (await bench.services.routes.route("org_b", "digits")).deployment == public.id


@pytest.mark.parametrize(
    "own",
    [{"traffic": 0}, *({"status": each} for each in DeploymentStatus if each not in _TAKING)],
    ids=lambda own: "-".join(map(str, own.values())),
)
async def test_an_own_deployment_that_takes_nothing_does_not_hide_the_public_ones(
    bench: Bench, own: dict[str, Any]
) -> None:
    """For the choice, for the metrics of a refusal and for what the model's resource lists alike."""
    table = bench.services.routes
    mine = await bench.deploy("digits", org="org_a", **own)
    public = await bench.deploy("digits", org=PUBLIC_ORG)
    assert (await table.route("org_a", "digits")).deployment == public.id
    known = table.known("org_a", "digits")
    assert known is not None
    assert known.deployment == public.id
    assert public.id in [each.id for each in table.serving("org_a", "digits")]
    await bench.services.deployments.transition(public, DeploymentStatus.DRAINING, message="Gone.")
    await table.refresh()
    assert table.known("org_a", "digits") is None
    with pytest.raises(PlatformError, match=mine.id if mine.status != "deleted" else "model_not_ready"):
        await table.route("org_a", "digits")


async def test_while_an_own_deployment_answers_the_public_ones_are_not_listed(bench: Bench) -> None:
    await bench.deploy("digits", org=PUBLIC_ORG)
    mine = await bench.deploy("digits", org="org_a")
    idle = await bench.deploy("digits", org="org_a", traffic=0)
    serving = {each.id for each in bench.services.routes.serving("org_a", "digits")}
    assert serving == {mine.id, idle.id}


async def test_a_public_model_does_not_answer_for_other_content_of_its_id(bench: Bench) -> None:
    """An organization may have had the id before the public model came."""
    await bench.deploy("digits", org=PUBLIC_ORG)
    await bench.deploy("digits", org="org_a", traffic=0, artifact="0" * 64)
    with pytest.raises(PlatformError, match="model_not_ready"):
        await bench.services.routes.route("org_a", "digits")


async def test_a_miss_looks_once_more_before_it_refuses(bench: Bench) -> None:
    await bench.add_model("digits")
    await bench.deploy("sentiment-v1", org="org_a")
    table = _unwatched(bench)
    assert (await table.route("org_a", "sentiment-v1")).model == "sentiment-v1"
    with pytest.raises(PlatformError) as refused:
        await table.route("org_a", "digits")
    assert refused.value.code == "model_not_ready"


async def test_a_miss_during_a_renewal_finds_what_the_renewal_brought(bench: Bench) -> None:
    """The defect: both saw the same version, and the one that came second refused without looking again."""
    await bench.deploy("sentiment-v1", org="org_a")
    table = _unwatched(bench)
    renewal = asyncio.create_task(table.refresh())
    routes = await asyncio.gather(*(table.route("org_a", "sentiment-v1") for _ in range(4)))
    await renewal
    assert {route.model for route in routes} == {"sentiment-v1"}


async def test_a_deployment_without_a_usable_codec_harms_no_other(bench: Bench) -> None:
    await bench.deploy("digits", org="org_a")
    broken = {"kind": "nonsense"}
    await bench.deploy("sentiment-v1", org="org_a", spec=broken, artifact="0" * 64)
    assert (await bench.services.routes.route("org_a", "digits")).model == "digits"
    with pytest.raises(PlatformError) as refused:
        await bench.services.routes.route("org_a", "sentiment-v1")
    assert refused.value.code == "model_not_ready"


async def test_a_codec_that_cannot_be_read_now_is_looked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket of the artifacts is away for a moment: no other change is needed for the deployment to be found."""
    deployment = await bench.deploy("digits", org="org_a", traffic=100)
    table = _unwatched(bench)
    get = CodecCache.get

    async def away(*_: Any) -> None:
        raise PlatformError("unavailable")

    monkeypatch.setattr(CodecCache, "get", away)
    await table.refresh_if_changed()
    assert table.known("org_a", "digits") is None
    monkeypatch.setattr(CodecCache, "get", get)
    assert await table.refresh_if_changed()
    known = table.known("org_a", "digits")
    assert known is not None
    assert known.deployment == deployment.id
    assert not await table.refresh_if_changed()


async def test_codecs_are_built_once_for_each_artifact_and_dropped_with_it(bench: Bench) -> None:
    first = await bench.deploy("digits", org="org_a")
    second = await bench.deploy("digits", org="org_a")
    table = bench.services.routes
    routes = {route.deployment: route for route in table._routes["org_a", "digits"]}
    assert routes[first.id].codec is routes[second.id].codec
    for deployment in (first, second):
        await bench.services.deployments.transition(deployment, DeploymentStatus.DRAINING, message="Gone.")
    await table.refresh()
    assert not table._codecs._codecs


async def test_handles_are_kept_while_a_deployment_drains(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org="org_a")
    services = bench.services
    await services.deployments.transition(deployment, DeploymentStatus.DRAINING, message="Gone.")
    await services.routes.refresh()
    assert deployment.id in bench.call.kept
    await services.deployments.transition(deployment, DeploymentStatus.DELETED, message="Freed.")
    await services.routes.refresh()
    assert deployment.id not in bench.call.kept
