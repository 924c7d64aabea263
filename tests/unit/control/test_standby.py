"""Deployments that take replicas which stand by: when they come, and when they wake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from fyretoolkit.control.deployments import DeploymentReconciler
from fyretoolkit.control.standby import Standby
from fyretoolkit.core.capacity import Ask, Holding, Node, Shortage
from fyretoolkit.core.deployments import Application, ApplicationState, Deployment, RemoveApplication
from fyretoolkit.core.ids import is_id, new_id
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.standby import PREFIX, Claims, StartStandby, Surroundings
from fyretoolkit.models.manifest import Resources
from fyretoolkit.settings import StandbySettings
from tests.support.reconciling import Scene

pytestmark = pytest.mark.anyio

SLEEPY = {"min_replicas": 0, "max_replicas": 2}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def staffed(scene: Scene) -> Scene:
    """The scene, where one replica is to stand by for models that ask for 2.5 CPUs, as they do there."""
    deployments = scene.settings.deployments.model_copy(update={"num_cpus": 2.5})
    changes = {"standby": StandbySettings(), "deployments": deployments}
    scene.settings = scene.settings.model_copy(update=changes)
    return scene


def standing_by(scene: Scene) -> list[str]:
    """The applications that nobody has."""
    return [name for name in scene.serve.applications if is_id(name, PREFIX)]


async def filled(scene: Scene, reconciler: DeploymentReconciler) -> str:
    """The one that stands by, once it does."""
    await scene.until(lambda: bool(standing_by(scene)), reconciler)
    await reconciler.tick()  # which takes note of it
    (name,) = standing_by(scene)
    return name


async def found(scene: Scene, made: Deployment) -> Deployment:
    deployment = await scene.deployments.get("org_a", made.id)
    assert deployment is not None
    return deployment


async def test_a_deployment_takes_one_that_stands_by(staffed: Scene) -> None:
    """It is told its model, nothing is started, and the pool fills again. Deleted, it takes the application along."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    made = await staffed.create()
    ready = await staffed.settled(made, reconciler, "ready")
    assert (ready.standby, ready.application) == (name, name)
    assert staffed.serve.warm_ups == [name]
    assert staffed.serve.applied == []
    assignment = await staffed.deployments.assignment(name)
    assert assignment is not None
    assert assignment.deployment == made.id
    assert await staffed.deployments.assignment(made.id) is None
    await staffed.until(lambda: len(standing_by(staffed)) == 2, reconciler)
    await staffed.deployments.transition(ready, DeploymentStatus.DRAINING, message="deleted")
    await staffed.settled(made, reconciler, "deleted")
    assert name not in staffed.serve.applications
    assert await staffed.deployments.assignment(name) is None


async def test_two_deployments_never_take_the_same(staffed: Scene) -> None:
    """Both asked for at once: one starts its own."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    first, second = await staffed.create(model="a"), await staffed.create(model="b")
    one = await staffed.settled(first, reconciler, "ready")
    other = await staffed.settled(second, reconciler, "ready")
    assert name in (one.application, other.application)
    assert one.application != other.application


async def test_one_that_another_controller_gave_away_is_not_taken(staffed: Scene) -> None:
    """Its assignment is there though this controller believes that it stands by: the deployment starts its own."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    await staffed.deployments._store.redis.set(f"fyre:assignment:{name}", "{}")
    made = await staffed.create()
    errand = await reconciler._preparer.prepare(made, _nothing)  # so that nothing is looked at in between
    await reconciler._start(made, errand)
    assert (await found(staffed, made)).application == made.id


async def test_a_dead_one_is_never_handed_out(staffed: Scene) -> None:
    """Unhealthy at the last look: it goes, and the deployment starts its own."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    dead = replace(staffed.serve.applications[name], state=ApplicationState.UNHEALTHY, running_replicas=0)
    staffed.serve.applications[name] = dead
    made = await staffed.create()
    ready = await staffed.settled(made, reconciler, "ready")
    assert ready.application == made.id
    await staffed.until(lambda: name not in staffed.serve.applications, reconciler)


async def test_another_shape_is_left_alone(staffed: Scene) -> None:
    """A model that asks for a GPU does not land where there is none."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    staffed.preparer.resources = Resources(num_gpus=1)
    made = await staffed.create()
    ready = await staffed.settled(made, reconciler, "ready")
    assert ready.application == made.id
    assert standing_by(staffed) == [name]


async def test_what_it_takes_is_scaled_like_its_own(staffed: Scene) -> None:
    """Three replicas were asked for: the application that has one is told so."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    made = await staffed.create(replicas=3)
    await staffed.settled(made, reconciler, "ready")
    await staffed.until(lambda: staffed.serve.applications[name].replica_range == (3, 3), reconciler)


async def until_found(
    scene: Scene, made: Deployment, reconciler: DeploymentReconciler, is_so: Callable[[Deployment], bool]
) -> Deployment:
    """The deployment once something is so of it, ticking until then."""
    async with asyncio.timeout(60):
        while not is_so(deployment := await found(scene, made)):
            await reconciler.tick()
            await asyncio.sleep(0.01)
    return deployment


async def test_a_claim_that_is_sent_again_is_its_own(staffed: Scene) -> None:
    """The reply to it was lost: what it took is not taken by somebody else."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    made = await staffed.create()
    sent: list[tuple[str, list[str], list[str]]] = []
    run = staffed.deployments._store.run

    async def twice(script: str, keys: list[str], arguments: list[str]) -> object:
        sent.append((script, keys, arguments))
        await run(script, keys, arguments)
        return await run(script, keys, arguments)

    staffed.deployments._store.run = twice  # type: ignore[method-assign, assignment]
    await reconciler._start(made, await reconciler._preparer.prepare(made, _nothing))
    assert [script for script, _, _ in sent] == ["transition_deployment"]
    assert (await found(staffed, made)).application == name


async def test_one_that_stood_by_has_the_time_of_a_load(staffed: Scene) -> None:
    """Its first call loads the model; too long is too long to load, as it would be for one of its own."""
    reconciler = staffed.reconciler()
    await filled(staffed, reconciler)
    staffed.serve.warm_up_error = TimeoutError()
    made = await staffed.create()
    failed = await staffed.settled(made, reconciler, "failed")
    assert staffed.serve.limits_s == [staffed.settings.deployments.load_timeout_s]
    assert failed.error is not None
    assert failed.error["code"] == "load_timeout"


async def asleep(scene: Scene, reconciler: DeploymentReconciler) -> Deployment:
    """A deployment that autoscaling took to no replica, its own application still there."""
    made = await scene.create(autoscaling=SLEEPY)
    await scene.settled(made, reconciler, "ready")
    scene.serve.applications[made.id] = Application(
        made.id, ApplicationState.RUNNING, 0, replica_range=(0, 2), target_replicas=0
    )
    sleeping = await until_found(scene, made, reconciler, lambda each: each.target_replicas == 0)
    assert (sleeping.status, sleeping.ready_replicas) == ("ready", 0)
    return sleeping


async def test_one_that_is_called_in_its_sleep_takes_one_that_stands_by(scene: Scene) -> None:
    """Its own application, which has no replica, goes; what it was given is that of before. It is scaled as ever."""
    made = await asleep(scene, scene.reconciler())
    before = await scene.deployments.assignment(made.id)
    assert before is not None
    changes = {
        "standby": StandbySettings(),
        "deployments": scene.settings.deployments.model_copy(update={"num_cpus": 2.5}),
    }
    scene.settings = scene.settings.model_copy(update=changes)
    reconciler = scene.reconciler()
    name = await filled(scene, reconciler)
    await scene.deployments.ask_to_wake("org_a", made.id)
    await reconciler.tick()
    awake = await found(scene, made)
    assert (awake.application, awake.status, awake.ready_replicas) == (name, "ready", 1)
    after = await scene.deployments.assignment(name)
    assert after is not None
    assert replace(after, epoch=0) == replace(before, epoch=0)
    await scene.until(lambda: made.id not in scene.serve.applications, reconciler)
    assert scene.serve.applications[name].replica_range == (0, 2)


async def test_without_one_that_stands_by_nothing_happens(scene: Scene) -> None:
    """Who called it has Serve start one; the word that was left is not kept for later."""
    reconciler = scene.reconciler()
    made = await asleep(scene, reconciler)
    await scene.deployments.ask_to_wake("org_a", made.id)
    await reconciler.tick()
    assert (await found(scene, made)).application == made.id
    assert await scene.deployments.waking() == []


async def test_what_a_sleeper_left_is_never_handed_out(staffed: Scene) -> None:
    """An application that served, and that nobody has any more, is spent: whatever a model left in it stays there."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    made = await staffed.create(autoscaling=SLEEPY)
    await staffed.settled(made, reconciler, "ready")
    await staffed.until(lambda: len(standing_by(staffed)) == 2, reconciler)
    ask = staffed.serve.applications[name].ask
    staffed.serve.applications[name] = Application(
        name, ApplicationState.RUNNING, 0, replica_range=(0, 2), target_replicas=0, ask=ask
    )
    await until_found(staffed, made, reconciler, lambda each: each.target_replicas == 0)
    await staffed.deployments.ask_to_wake("org_a", made.id)
    moved = await until_found(staffed, made, reconciler, lambda each: each.application != name)
    await staffed.until(lambda: name not in staffed.serve.applications, reconciler)
    assert moved.application in staffed.serve.applications


async def waits(scene: Scene, ask: Ask) -> None:
    """A deployment that is ready lacks room for one more replica from now on."""
    name = (await scene.create(model="other", status=DeploymentStatus.READY)).id
    scene.serve.applications[name] = Application(
        name,
        ApplicationState.STARTING,
        1,
        replica_range=(1, 1),
        ask=ask,
        shortage=Shortage(ask, {"CPU": 0.0}),
    )


def fill_machine(scene: Scene, *standing: str) -> None:
    """The one node has no room but that of those which stand by."""
    scene.serve.nodes = [Node({}, {"CPU": 0.0}, held={name: [Holding({"CPU": 2.5})] for name in standing})]


async def test_one_that_was_taken_during_a_look_stays(
    staffed: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment takes it after the look found nobody owning it, and before it is withdrawn for another one."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    made = await staffed.create()
    prepared = await reconciler._preparer.prepare(made, _nothing)
    await waits(staffed, Ask({"CPU": 2.5}, {}))
    fill_machine(staffed, name)
    record = reconciler._record_replicas

    async def record_slowly(desired: list[Deployment], observed: list[Application]) -> None:
        await record(desired, observed)
        await reconciler._start(made, prepared)  # as its preparation does, when that ends now

    removed: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(reconciler, "_record_replicas", record_slowly)
        patch.setattr(staffed.serve, "remove", removed.append)
        await reconciler.tick()
    ready = await staffed.settled(made, reconciler, "ready")
    assert (ready.application, removed) == (name, [])


async def test_one_that_nobody_took_makes_room(staffed: Scene) -> None:
    """The same without a taker: it goes, and none is started while there is no room."""
    reconciler = staffed.reconciler()
    name = await filled(staffed, reconciler)
    await waits(staffed, Ask({"CPU": 2.5}, {}))
    fill_machine(staffed, name)
    await staffed.until(lambda: name not in staffed.serve.applications, reconciler)
    fill_machine(staffed)
    for _ in range(5):
        await reconciler.tick()
        await asyncio.sleep(0.01)
    assert standing_by(staffed) == []


def idle_application(standby: Standby) -> Application:
    """One that stands by."""
    (ask,) = standby._pools.shapes
    return Application(new_id(PREFIX), ApplicationState.RUNNING, 1, ask=ask)


async def test_one_that_was_taken_is_not_offered_again(staffed: Scene) -> None:
    """Before anything of it is written, and once its owner is known; if it was never written it is idle again."""
    standby, nobody = Standby(staffed.settings), Claims(frozenset(), frozenset())
    first = idle_application(standby)
    assert first.ask is not None
    around = Surroundings(time.time())
    assert standby.look([first], nobody, around) == []
    assert standby.take(first.ask) == first.name
    assert standby.look([first], nobody, around) == []
    assert (standby.take(first.ask), standby.counts["ready"]) == (None, 0)
    standby._taken[first.name] -= 31
    standby.look([first], nobody, around)
    assert standby.take(first.ask) == first.name
    standby.look([first], Claims({first.name}, {first.name}), around)
    assert standby.take(first.ask) is None
    assert standby.look([first], Claims(frozenset(), {first.name}), around) == [RemoveApplication(first.name)]


async def test_a_slow_deployment_does_not_stop_refills(staffed: Scene) -> None:
    """They wait ten seconds for those on their way, and again for the next after nothing was."""
    standby, nobody = Standby(staffed.settings), Claims(frozenset(), frozenset())
    start = [StartStandby(ask) for ask in standby._pools.shapes]
    busy = Surroundings(1000.0, [Node({}, {"CPU": 100.0})], is_busy=True)
    assert standby.look([], nobody, busy) == []
    assert standby.look([], nobody, replace(busy, now=1009.0)) == []
    assert standby.look([], nobody, replace(busy, now=1010.0)) == start
    assert standby.look([], nobody, replace(busy, now=1011.0, is_busy=False)) == start
    assert standby.look([], nobody, replace(busy, now=1012.0)) == []


async def _nothing() -> None:
    return
