"""Deployments and models in Redis: fenced changes, assignments, lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.models import ModelStore

Run = Callable[[Callable[[Store], Any]], Any]


def new_deployment() -> Deployment:
    """A deployment that was just asked for."""
    return Deployment(
        id=new_id("dep"),
        org="org_a",
        status=DeploymentStatus.PROVISIONING,
        stage=Stage.FETCHING,
        model="m",
        model_uri="file:///m.onnx",
        region="us-east-1",
        created=1,
        updated=1,
        stage_at=1.25,
        autoscaling={"min_replicas": 1, "max_replicas": 3},
    )


def new_model(name: str, org: str = "org_a") -> Model:
    """A model that can be deployed."""
    return Model(
        id=name, org=org, status=ModelStatus.READY, created=1, order=new_id("mdl"), artifact="a" * 64
    )


def test_an_older_controller_can_change_nothing(with_store: Run) -> None:
    """Once a newer one started, its changes are refused with an error and leave no event."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        old = await deployments.new_controller_epoch()
        new = await deployments.new_controller_epoch()
        with pytest.raises(FencedError):
            await deployments.advance(made, Stage.STARTING, epoch=old, message="old")
        with pytest.raises(FencedError):
            await deployments.transition(made, DeploymentStatus.FAILED, epoch=old, message="old")
        assert await deployments.get("org_a", made.id) == made
        assert await deployments.events("org_a", made.id) == []
        assert await deployments.transition(made, DeploymentStatus.READY, epoch=new, message="new")

    with_store(scenario)


def test_an_assignment_appears_with_the_stage(with_store: Run) -> None:
    """Replicas find what to serve in the same step that starts them; it goes with the deployment."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        epoch = await deployments.new_controller_epoch()
        assignment = Assignment(made.id, "org_a", "m", "a" * 64, {"kind": "text"}, "us-east-1", epoch)
        await deployments.advance(made, Stage.STARTING, epoch=epoch, message="go", assignment=assignment)
        assert await deployments.assignment(made.id) == assignment
        await deployments.transition(made, DeploymentStatus.DRAINING, message="deleted by its owner")
        await deployments.transition(made, DeploymentStatus.DELETED, epoch=epoch, message="gone")
        assert await deployments.assignment(made.id) is None

    with_store(scenario)


def test_a_deleted_deployment_leaves_the_lists_and_expires(with_store: Run) -> None:
    """It can still be asked for by id for a while, but is in no list; nothing brings it back."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        await deployments.create(made)
        epoch = await deployments.new_controller_epoch()
        await deployments.transition(made, DeploymentStatus.DRAINING, message="delete")
        await deployments.transition(made, DeploymentStatus.DELETED, epoch=epoch, message="gone")
        assert not await deployments.transition(made, DeploymentStatus.READY, epoch=epoch, message="back")
        assert not await deployments.advance(made, Stage.STARTING, epoch=epoch, message="back")
        assert await deployments.live() == []
        assert await deployments.page("org_a", 10) == []
        stored = await deployments.get("org_a", made.id)
        assert stored is not None
        assert stored.status is DeploymentStatus.DELETED
        assert 0 < await store.redis.ttl(keys.deployment("org_a", made.id)) <= 100

    with_store(scenario)


def test_the_routes_version_grows_with_every_change(with_store: Run) -> None:
    """An ingress that missed a message sees by the number that it must look."""

    async def scenario(store: Store) -> None:
        deployments, made = DeploymentStore(store, 100), new_deployment()
        versions = [await deployments.routes_version()]
        await deployments.create(made)
        versions.append(await deployments.routes_version())
        await deployments.transition(made, DeploymentStatus.READY, message="ready")
        versions.append(await deployments.routes_version())
        assert versions == sorted(set(versions))

    with_store(scenario)


def test_a_replica_leaves_word_why_it_failed(with_store: Run) -> None:
    """The controller reads the code that the replica wrote; the word expires."""

    async def scenario(store: Store) -> None:
        deployments = DeploymentStore(store, 100)
        assert await deployments.load_failure("dep_x") is None
        await deployments.report_load_failure("dep_x", "gpu_unavailable", "No CUDA device.")
        assert await deployments.load_failure("dep_x") == ("gpu_unavailable", "No CUDA device.")
        assert await store.redis.ttl(keys.load_failure("dep_x")) > 0

    with_store(scenario)


def test_a_model_id_belongs_to_the_first_content(with_store: Run) -> None:
    """Registering the id again returns what is there."""

    async def scenario(store: Store) -> None:
        models, first = ModelStore(store), new_model("m")
        assert await models.register(first) == first
        assert await models.register(replace(first, artifact="b" * 64)) == first

    with_store(scenario)


def test_own_models_shadow_public_ones_and_foreign_ones_do_not_exist(with_store: Run) -> None:
    """The lookup order of a model id."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        public, own, foreign = new_model("m", PUBLIC_ORG), new_model("m"), new_model("n", "org_b")
        for model in (public, foreign):
            await models.register(model)
        assert await models.get("org_a", "m") == public
        assert await models.get("org_a", "n") is None
        await models.register(own)
        assert await models.get("org_a", "m") == own
        assert await models.get("org_b", "m") == public

    with_store(scenario)


def test_model_pages_merge_own_and_public(with_store: Run) -> None:
    """One list, newest first, whoever owns them; pages meet without gap or overlap."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        made = [new_model(f"m{i}", PUBLIC_ORG if i % 2 else "org_a") for i in range(7)]
        for model in made:
            await models.register(model)
        first = await models.page("org_a", 3)
        rest = await models.page("org_a", 10, after=first[-1])
        assert [model.id for model in first + rest] == [model.id for model in reversed(made)]

    with_store(scenario)
