"""What a caller changes of a deployment while the controller works on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus, Stage
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore

Run = Callable[[Callable[[Store], Any]], Any]


def new_deployment(status: str = "provisioning") -> Deployment:
    """A deployment with one replica."""
    return Deployment(
        id=new_id("dep"), org="org_a", status=DeploymentStatus(status), stage=Stage.FETCHING, model="m",
        model_uri="file:///m.onnx", region="us-east-1", created=1, updated=1, stage_at=1.25,
    )  # fmt: skip


async def stored(deployments: DeploymentStore, made: Deployment) -> Deployment:
    """The deployment as it is now."""
    found = await deployments.get("org_a", made.id)
    assert found is not None
    return found


def test_a_change_keeps_the_stage_and_moves_the_routes(with_store: Run) -> None:
    """The values, an event and a new revision; how long the stage has lasted goes on; ingresses look anew."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        version = await deployments.routes_version()
        values = {"replicas": 3, "traffic": 10, "autoscaling": {"min_replicas": 1, "max_replicas": 2}}
        assert await deployments.change(made, values, message="More.")
        found = await stored(deployments, made)
        assert (found.replicas, found.traffic, found.autoscaling) == (3, 10, values["autoscaling"])
        assert (found.stage_at, found.revision) == (1.25, 1)
        assert found.updated > 1
        (event,) = await deployments.events("org_a", made.id)
        assert (event["stage"], event["message"]) == ("changed", "More.")
        assert await deployments.routes_version() > version
        assert await deployments.change(found, {"autoscaling": None}, message="Off.")
        assert (await stored(deployments, made)).autoscaling is None

    with_store(scenario)


@pytest.mark.parametrize("status", list(DeploymentStatus))
def test_only_a_live_deployment_changes(with_store: Run, status: str) -> None:
    """Nothing is written to one that failed, drains or is deleted."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment(status)
        await deployments.create(made)
        is_changed = await deployments.change(made, {"replicas": 2}, message="More.")
        assert is_changed is (status in LIVE_DEPLOYMENT)
        assert is_changed or await stored(deployments, made) == made

    with_store(scenario)


def test_a_step_that_was_decided_on_an_older_scale_is_refused(with_store: Run) -> None:
    """The controller writes the manifest's bounds with the step to starting; not over what was just asked for."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        epoch = await deployments.new_controller_epoch()
        assignment = Assignment(made.id, "org_a", "m", "f" * 64, {}, "us-east-1", epoch)
        bounds = {"min_replicas": 1, "max_replicas": 9}

        async def step(decided_on: Deployment) -> bool:
            return await deployments.advance(
                decided_on,
                Stage.STARTING,
                epoch=epoch,
                message="go",
                assignment=assignment,
                autoscaling=bounds,
            )

        await deployments.change(made, {"replicas": 2}, message="Two.")
        assert not await step(made)
        assert (await stored(deployments, made)).autoscaling is None
        assert await step(await stored(deployments, made))

    with_store(scenario)


def test_a_record_from_before_revisions_is_at_revision_zero(with_store: Run) -> None:
    """Its first step and its first change work."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        await store.redis.hdel(f"fyre:org:org_a:deployment:{made.id}", "revision")
        epoch = await deployments.new_controller_epoch()
        assignment = Assignment(made.id, "org_a", "m", "f" * 64, {}, "us-east-1", epoch)
        assert await deployments.advance(
            made, Stage.STARTING, epoch=epoch, message="go", assignment=assignment
        )
        assert await deployments.change(made, {"replicas": 2}, message="Two.")
        assert (await stored(deployments, made)).revision == 1

    with_store(scenario)


def test_a_change_decided_on_an_older_revision_is_refused(with_store: Run) -> None:
    """Of two that read the same record one is made; the other decides again."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment("ready")
        await deployments.create(made)
        assert await deployments.change(made, {"replicas": 2}, message="Two.")
        assert not await deployments.change(made, {"replicas": 3}, message="Three.")
        found = await stored(deployments, made)
        assert found.replicas == 2
        assert await deployments.change(found, {"replicas": 3}, message="Three.")

    with_store(scenario)


def test_what_is_observed_is_no_event_and_no_change(with_store: Run) -> None:
    """Replicas that run, and how many Serve aims at: neither begins a stage nor a revision.

    What was seen before its caller changed it is not recorded any more.
    """

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment("ready")
        await deployments.create(made)
        epoch = await deployments.new_controller_epoch()
        assert await deployments.observe(made, epoch=epoch, ready_replicas=2, target_replicas=3)
        found = await stored(deployments, made)
        assert (found.ready_replicas, found.target_replicas) == (2, 3)
        assert (found.stage_at, found.revision) == (1.25, 0)
        assert await deployments.events("org_a", made.id) == []
        assert await deployments.change(made, {"target_replicas": 5}, message="Five.")
        assert not await deployments.observe(made, epoch=epoch, ready_replicas=1, target_replicas=1)
        assert (await stored(deployments, made)).target_replicas == 5

    with_store(scenario)
