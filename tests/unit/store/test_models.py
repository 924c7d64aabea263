"""Models in Redis: lists by status, publications, and who may change what when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import Creation, CreationOutcome
from fyretoolkit.store.deployments import Assignment, DeploymentStore
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.models import ModelStore

Run = Callable[[Callable[[Store], Any]], Any]
URI = "https://a.example/m.onnx"


def new_model(name: str = "m", status: str = "training", org: str = "org_a", **more: Any) -> Model:
    """A model as it was just registered."""
    return Model(name, org, ModelStatus(status), 1, new_id("mdl"), **more)


def given(name: str = "m") -> Model:
    """A model that the controller has to prepare."""
    return new_model(name, source_uri=URI, publication=1, published_at=1.0)


def new_deployment(model: str = "m", status: str = "provisioning", org: str = "org_a") -> Deployment:
    """A deployment of a model that its caller named."""
    return Deployment(
        id=new_id("dep"), org=org, status=DeploymentStatus(status), stage=Stage.FETCHING, model=model,
        model_uri=f"models://{model}", region="us-east-1", created=1, updated=1, stage_at=1.0,
        is_model_id_chosen=True,
    )  # fmt: skip


async def listed(store: Store, status: ModelStatus | None = None) -> list[str]:
    """The ids that a page of the list shows."""
    return [model.id for model in await ModelStore(store).page("org_a", 10, status=status)]


def test_every_status_has_its_list(with_store: Run) -> None:
    """A model is in the list of all and in that of its status, newest first, wherever its life takes it."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        epoch = await DeploymentStore(store, 100).new_controller_epoch()
        await models.register(new_model("public", "ready", PUBLIC_ORG))
        for name in ("a", "b", "c"):
            await models.register(given(name))
        a, c = await models.get("org_a", "a"), await models.get("org_a", "c")
        assert a is not None
        assert c is not None
        assert await models.complete(a, epoch=epoch, artifact="f" * 64)
        assert await models.archive(c) == []
        assert await listed(store) == ["c", "b", "a", "public"]
        assert await listed(store, ModelStatus.TRAINING) == ["b"]
        assert await listed(store, ModelStatus.READY) == ["a", "public"]
        assert await listed(store, ModelStatus.ARCHIVED) == ["c"]
        assert await models.archive(replace(a, status=ModelStatus.READY)) == []
        assert await listed(store, ModelStatus.READY) == ["public"]

    with_store(scenario)


def test_a_page_of_one_status_starts_after_a_model_of_any(with_store: Run) -> None:
    """The cursor positions by when it was registered."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        made = [new_model(f"m{i}", "ready" if i % 2 else "training") for i in range(6)]
        for model in made:
            await models.register(model)
        page = await models.page("org_a", 2, after=made[4], status=ModelStatus.READY)
        assert [model.id for model in page] == ["m3", "m1"]

    with_store(scenario)


def test_a_page_reads_no_more_than_it_shows(with_store: Run) -> None:
    """However many models of other statuses lie between: the reads are counted by Redis."""

    async def reads(store: Store) -> int:
        before = (await store.redis.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"]
        await ModelStore(store).page("org_a", 3, status=ModelStatus.READY)
        return int((await store.redis.info("commandstats"))["cmdstat_hgetall"]["calls"]) - int(before)

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        await models.register(new_model("oldest", "ready"))
        for number in range(50):
            await models.register(new_model(f"m{number}", "archived"))
        assert await reads(store) == 1

    with_store(scenario)


def test_a_model_with_a_source_waits_to_be_prepared(with_store: Run) -> None:
    """Registered with one, or published; until it is ready, given up or archived."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        epoch = await DeploymentStore(store, 100).new_controller_epoch()
        for model in (given("a"), given("b"), given("c"), new_model("later"), new_model("r", "ready")):
            await models.register(model)
        assert {model.id for model in await models.preparing()} == {"a", "b", "c"}
        later = await models.get("org_a", "later")
        assert later is not None
        assert (await models.publish(later, URI)).outcome is CreationOutcome.CREATED
        by_id = {model.id: model for model in await models.preparing()}
        assert by_id.keys() == {"a", "b", "c", "later"}
        assert await models.complete(by_id["a"], epoch=epoch, artifact="f" * 64)
        assert await models.give_up(by_id["b"], {"code": "invalid_onnx", "message": "."}, epoch=epoch)
        assert await models.archive(by_id["c"]) == []
        assert [model.id for model in await models.preparing()] == ["later"]

    with_store(scenario)


def test_what_is_found_at_an_older_source_is_dropped(with_store: Run) -> None:
    """Published again while the first source was fetched: its content and its error come too late."""

    async def scenario(store: Store) -> None:
        models, first = ModelStore(store), given()
        epoch = await DeploymentStore(store, 100).new_controller_epoch()
        await models.register(first)
        assert (
            await models.publish(first, "https://a.example/second.onnx")
        ).outcome is CreationOutcome.CREATED
        assert not await models.complete(first, epoch=epoch, artifact="1" * 64)
        assert not await models.give_up(first, {"code": "invalid_onnx", "message": "."}, epoch=epoch)
        second = await models.get("org_a", "m")
        assert second is not None
        assert (second.status, second.publication, second.error) == (ModelStatus.TRAINING, 2, None)
        assert await models.complete(second, epoch=epoch, artifact="2" * 64)
        ready = await models.get("org_a", "m")
        assert ready is not None
        assert (ready.status, ready.artifact, ready.source_uri) == (
            ModelStatus.READY,
            "2" * 64,
            "https://a.example/second.onnx",
        )

    with_store(scenario)


def test_publishing_again_forgets_the_error(with_store: Run) -> None:
    """A registration that failed holds its id, and takes other content."""

    async def scenario(store: Store) -> None:
        models, model = ModelStore(store), given()
        epoch = await DeploymentStore(store, 100).new_controller_epoch()
        await models.register(model)
        await models.give_up(model, {"code": "invalid_onnx", "message": "Cut short."}, epoch=epoch)
        failed = await models.get("org_a", "m")
        assert failed is not None
        assert failed.error == {"code": "invalid_onnx", "message": "Cut short."}
        assert (await models.publish(failed, URI)).outcome is CreationOutcome.CREATED
        again = await models.get("org_a", "m")
        assert again is not None
        assert (again.error, again.is_preparing) == (None, True)

    with_store(scenario)


@pytest.mark.parametrize("status", ["ready", "archived"])
def test_only_a_model_in_training_takes_a_source(with_store: Run, status: str) -> None:
    """What is ready stays what it is, and nothing leaves the archive."""

    async def scenario(store: Store) -> None:
        models, model = ModelStore(store), new_model(status=status)
        epoch = await DeploymentStore(store, 100).new_controller_epoch()
        await models.register(model)
        assert await models.publish(model, URI) == Creation(CreationOutcome.REFUSED, status)
        assert not await models.complete(model, epoch=epoch, artifact="f" * 64)
        assert await models.get("org_a", "m") == model
        assert await models.preparing() == []

    with_store(scenario)


def test_an_older_controller_can_change_no_model(with_store: Run) -> None:
    """It learns that it was replaced."""

    async def scenario(store: Store) -> None:
        models, model = ModelStore(store), given()
        old = await DeploymentStore(store, 100).new_controller_epoch()
        await DeploymentStore(store, 100).new_controller_epoch()
        await models.register(model)
        with pytest.raises(FencedError):
            await models.complete(model, epoch=old, artifact="f" * 64)
        with pytest.raises(FencedError):
            await models.give_up(model, {"code": "invalid_onnx", "message": "."}, epoch=old)
        assert await models.get("org_a", "m") == model

    with_store(scenario)


@pytest.mark.parametrize("status", list(DeploymentStatus))
def test_a_model_is_archived_unless_a_live_deployment_serves_it(with_store: Run, status: str) -> None:
    """Failed and draining ones do not keep it; nor do those of other models or organizations."""

    async def scenario(store: Store) -> None:
        models, deployments = ModelStore(store), DeploymentStore(store, 100)
        model, mine = new_model(status="ready"), new_deployment(status=status)
        await models.register(model)
        for each in (mine, new_deployment("other"), new_deployment(org="org_b")):
            await deployments.create(each)
        is_live = status in LIVE_DEPLOYMENT
        assert await models.archive(model) == ([mine.id] if is_live else [])
        found = await models.get("org_a", "m")
        assert found is not None
        assert found.status == ("ready" if is_live else "archived")

    with_store(scenario)


def test_the_deployments_of_a_model_are_known_at_every_step(with_store: Run) -> None:
    """Also when the controller learns the model late, and when its record is from before the list by model."""

    async def scenario(store: Store) -> None:
        models, deployments = ModelStore(store), DeploymentStore(store, 100)
        epoch = await deployments.new_controller_epoch()
        model, other = new_model(status="ready"), new_model("other", status="ready")
        for each in (model, other):
            await models.register(each)
        made = replace(new_deployment("other"), is_model_id_chosen=False)
        await deployments.create(made)
        await deployments.advance(made, Stage.FETCHING, epoch=epoch, message="go", model="m")
        assert await models.archive(other) == []
        assert await models.archive(model) == [made.id]
        await store.redis.delete(keys.deployments_by_model("org_a"))
        later = new_deployment("third")
        await deployments.create(later)
        assert await models.archive(model) == [made.id]
        for status in (DeploymentStatus.DRAINING, DeploymentStatus.DELETED):
            await deployments.transition(made, status, message="gone")
        listed = await store.redis.zrange(keys.deployments_by_model("org_a"), 0, -1)
        assert listed == [f"third {later.id}"]
        assert await models.archive(model) == []

    with_store(scenario)


def test_archiving_looks_at_no_other_models_deployments(with_store: Run) -> None:
    """However many the organization has; of its own live ones a hundred are named."""

    async def commands(store: Store) -> int:
        stats = await store.redis.info("commandstats")
        return int(stats.get("cmdstat_hmget", {"calls": 0})["calls"])

    async def scenario(store: Store) -> None:
        models, deployments = ModelStore(store), DeploymentStore(store, 100)
        model = new_model(status="ready")
        await models.register(model)
        for number in range(230):
            await deployments.create(new_deployment("m" if number < 110 else "other"))
        before = await commands(store)
        assert len(await models.archive(model)) == 100
        assert await commands(store) - before == 1

    with_store(scenario)


@pytest.mark.parametrize("status", ["training", "archived"])
def test_no_deployment_is_created_of_a_model_that_is_not_ready(with_store: Run, status: str) -> None:
    """Decided in the step that would create it; nothing of it is left."""

    async def scenario(store: Store) -> None:
        deployments = DeploymentStore(store, 100)
        await ModelStore(store).register(new_model(status=status))
        creation = await deployments.create(new_deployment())
        assert (creation.outcome, creation.answer) == (CreationOutcome.REFUSED, status)
        assert await deployments.live() == []
        assert await store.redis.keys("fyre:org:org_a:deployment*") == []

    with_store(scenario)


def test_the_own_model_decides_not_the_public_one(with_store: Run) -> None:
    """Both have the id: the organization deploys its own."""

    async def scenario(store: Store) -> None:
        models, deployments = ModelStore(store), DeploymentStore(store, 100)
        await models.register(new_model(status="ready", org=PUBLIC_ORG))
        await models.register(new_model(status="archived"))
        mine = await deployments.create(new_deployment())
        theirs = await deployments.create(new_deployment(org="org_b"))
        outcomes = CreationOutcome.REFUSED, CreationOutcome.CREATED
        assert (mine.outcome, theirs.outcome) == outcomes

    with_store(scenario)


def test_a_deployment_that_learns_its_model_late_gets_none_that_is_archived(with_store: Run) -> None:
    """The package named it; the model was archived between the look and the step to starting."""

    async def scenario(store: Store) -> None:
        models, deployments = ModelStore(store), DeploymentStore(store, 100)
        model, made = (
            new_model(status="ready"),
            replace(new_deployment("file-name"), is_model_id_chosen=False),
        )
        epoch = await deployments.new_controller_epoch()
        await models.register(model)
        await deployments.create(made)
        assert await models.archive(model) == []
        assignment = Assignment(made.id, "org_a", "m", "f" * 64, {}, "us-east-1", epoch)
        assert not await deployments.advance(
            made, Stage.STARTING, epoch=epoch, message="go", assignment=assignment, model="m"
        )
        assert await deployments.assignment(made.id) is None

    with_store(scenario)


def test_public_models_can_be_taken_away(with_store: Run) -> None:
    """Their records and every list of them; the organizations' own stay."""

    async def scenario(store: Store) -> None:
        models = ModelStore(store)
        await models.register(new_model("demo", "ready", PUBLIC_ORG))
        await models.register(new_model("own", "ready"))
        await models.remove_public()
        assert await listed(store) == await listed(store, ModelStatus.READY) == ["own"]
        assert await store.redis.keys(keys.model(PUBLIC_ORG, "*")) == []

    with_store(scenario)
