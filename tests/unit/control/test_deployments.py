"""The deployments' reconciler over the real Redis; Ray Serve is a table of applications in its place."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from fyretoolkit.control import attempts
from fyretoolkit.control import deployments as module
from fyretoolkit.control.preparation import Prepared
from fyretoolkit.core.deployments import Application, ApplicationState, Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.models.manifest import Autoscaling, Resources
from fyretoolkit.store.fencing import FencedError
from tests.support.reconciling import BATCHING, Scene

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio alone."""
    return "asyncio"


async def test_from_a_request_to_ready_and_gone(scene: Scene) -> None:
    """Every stage in order, one warm-up; after a deletion its application and then the record go."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    events = [event["stage"] for event in await scene.deployments.events("org_a", made.id)]
    assert events == ["inspecting", "starting", "warming", "ready"]
    assert scene.serve.warm_ups == [made.id]
    await scene.deployments.transition(made, DeploymentStatus.DRAINING, message="deleted by its owner")
    await scene.settled(made, reconciler, "deleted")
    assert scene.serve.applications == {}


async def test_what_the_warm_up_measured_is_on_record_once_it_is_ready(scene: Scene) -> None:
    """In the same change; replicas that come later find it there."""
    made, reconciler = await scene.create(), scene.reconciler()
    assert made.batching is None
    ready = await scene.settled(made, reconciler, "ready")
    assert ready.batching == BATCHING


@pytest.mark.parametrize(("wanted", "threads"), [(None, 2), (1, 1)])
async def test_a_model_runs_on_as_many_threads_as_its_replica_has_cpus(
    scene: Scene, wanted: int | None, threads: int
) -> None:
    """Whole ones, unless the manifest says how many."""
    scene.preparer.resources = Resources(threads=wanted)
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    assignment = await scene.deployments.assignment(made.id)
    assert assignment is not None
    assert assignment.threads == threads


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (0.25, "A100")),
        ({"num_gpus": 0.0}, (0.0, None)),
        ({"num_gpus": 2.0}, (2.0, "A100")),
        ({"num_gpus": 1.0, "accelerator_type": "L4"}, (1.0, "L4")),
    ],
)
async def test_what_the_caller_says_of_gpus_goes_before_the_manifest(
    scene: Scene, asked: dict[str, Any], expected: tuple[float, str | None]
) -> None:
    """Also that it wants none: else nobody could run on CPUs a model whose manifest names a GPU."""
    scene.preparer.resources = Resources(num_gpus=0.25, accelerator_type="A100")
    made, reconciler = await scene.create(**asked), scene.reconciler()
    ready = await scene.settled(made, reconciler, "ready")
    assert (ready.num_gpus, ready.accelerator_type) == expected
    assignment = await scene.deployments.assignment(made.id)
    assert assignment is not None
    assert assignment.num_gpus == expected[0]


async def test_a_controller_that_dies_is_followed_at_any_stage(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new reconciler for every tick, each with a newer epoch: the deployment becomes ready all the same."""
    monkeypatch.setattr(attempts, "MOST", 1000)
    made = await scene.create()
    async with asyncio.timeout(60):
        for life in count(1):
            scene.epoch = await scene.deployments.new_controller_epoch()
            await scene.reconciler().tick()
            await asyncio.sleep(0.02 * life)  # a slow machine gets one on its way that has lived for longer
            found = await scene.deployments.get("org_a", made.id)
            if found is not None and found.status is DeploymentStatus.READY:
                break


async def test_a_lost_replica_degrades_and_comes_back(scene: Scene) -> None:
    """Ready, its application gone: degraded, started again, ready."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    scene.serve.applications.clear()
    await scene.settled(made, reconciler, "degraded")
    await scene.settled(made, reconciler, "ready")
    assert len(scene.serve.warm_ups) == 2


async def test_a_preparation_that_keeps_failing_ends_within_its_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no PlatformError: it is tried again, but its stage does not begin anew with each try."""
    scene.preparer.error = OSError(28, "No space left on device")
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.until(lambda: scene.preparer.calls > 1, reconciler)
    assert (await scene.settled(made, reconciler, "provisioning")).error is None
    monkeypatch.setattr(reconciler, "_bounds", module.Bounds(fetch_s=0, load_s=60, drain_s=0))
    failed = await scene.settled(made, reconciler, "failed")
    assert failed.error is not None
    assert failed.error["code"] == "load_timeout"
    stages = [event["stage"] for event in await scene.deployments.events("org_a", made.id)]
    assert stages == ["inspecting", "failed"]


async def test_what_serve_aims_at_under_old_bounds_is_not_recorded(scene: Scene) -> None:
    """New bounds start where the caller said; until Serve has them its target is that of the old ones."""
    made, reconciler = await scene.create(), scene.reconciler()
    ready = await scene.settled(made, reconciler, "ready")
    (seen,) = scene.serve.observe()
    wanted = {"autoscaling": {"min_replicas": 2, "max_replicas": 5}, "target_replicas": 4}
    assert await scene.deployments.change(ready, wanted, message="By load.")
    old = replace(seen, running_replicas=2)
    for observed, target in ((old, 4), (replace(old, replica_range=(2, 5), target_replicas=3), 3)):
        found = await scene.deployments.get("org_a", made.id)
        assert found is not None
        await reconciler._record_replicas([found], [observed])
        found = await scene.deployments.get("org_a", made.id)
        assert found is not None
        assert (found.ready_replicas, found.target_replicas) == (2, target)


async def test_a_store_that_is_away_fails_no_deployment(scene: Scene) -> None:
    """Preparing meets a Redis that restarts: tried again, not failed."""
    scene.preparer.error = PlatformError("unavailable")
    made, reconciler = await scene.create(), scene.reconciler()
    while scene.preparer.calls == 0:
        await reconciler.tick()
        await asyncio.sleep(0.01)
    scene.preparer.error = None
    await scene.settled(made, reconciler, "ready")


async def test_a_bad_artifact_fails_with_its_code(scene: Scene) -> None:
    """What the preparer says is what the caller reads; nothing is started."""
    scene.preparer.error = PlatformError("invalid_onnx", "Cut short.")
    made = await scene.create()
    failed = await scene.settled(made, scene.reconciler(), "failed", "ready")
    assert failed.error == {"code": "invalid_onnx", "message": "Cut short."}
    assert scene.serve.applications == {}


async def test_a_first_inference_that_fails_fails_the_deployment(scene: Scene) -> None:
    """The replica is up but cannot predict: failed, and its application is freed."""
    scene.serve.warm_up_error = PlatformError("warmup_failed", "Bad weights.")
    made, reconciler = await scene.create(), scene.reconciler()
    failed = await scene.settled(made, reconciler, "failed", "ready")
    assert failed.error == {"code": "warmup_failed", "message": "Bad weights."}
    async with asyncio.timeout(60):
        while scene.serve.applications:
            await reconciler.tick()
            await asyncio.sleep(0.01)


async def test_a_controller_that_was_replaced_stops(scene: Scene) -> None:
    """Its first refused change ends it, with an error that nobody swallows."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.deployments.new_controller_epoch()
    with pytest.raises(FencedError):
        await scene.settled(made, reconciler, "ready")


async def test_the_downtime_of_the_controller_does_not_count(scene: Scene) -> None:
    """A deployment asked for long before this controller started has its whole time."""
    made = await scene.create()
    await scene.settled(made, scene.reconciler(), "ready")


class Clocks:
    """The controller's: one may be set, time passes on both."""

    def __init__(self) -> None:
        self.set_by_s = 0.0
        self.passed_s = 0.0

    def time(self) -> float:
        return time.time() + self.set_by_s + self.passed_s

    def monotonic(self) -> float:
        return time.monotonic() + self.passed_s


@pytest.mark.parametrize("set_by_s", [3600, -3600])
async def test_a_clock_that_is_set_moves_no_deadline(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    """An hour forward failed what had been starting for a second, an hour back kept it an hour too long."""
    clocks = Clocks()
    monkeypatch.setattr(module, "time", clocks)
    made, reconciler = await scene.create(), scene.reconciler()
    monkeypatch.setattr(scene.serve, "apply", lambda *_: None)  # Serve takes its time
    await scene.staged(made, reconciler, Stage.STARTING)
    clocks.set_by_s = set_by_s
    for _ in range(5):
        await reconciler.tick()
        await asyncio.sleep(0.01)
    found = await scene.deployments.get("org_a", made.id)
    assert found is not None
    assert found.status is DeploymentStatus.PROVISIONING
    clocks.passed_s = scene.settings.deployments.load_timeout_s + 1
    await scene.settled(made, reconciler, "failed")


@pytest.mark.parametrize("error", [TimeoutError(), PlatformError("warmup_failed", "No.")])
async def test_a_degraded_deployment_is_tried_again(scene: Scene, error: Exception) -> None:
    """A warm-up that fails while it is brought back does not end a deployment that served."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    scene.serve.warm_up_error = error
    scene.serve.applications.clear()
    await scene.settled(made, reconciler, "degraded")
    while len(scene.serve.warm_ups) < 3:
        await reconciler.tick()
        await asyncio.sleep(0.01)
    scene.serve.warm_up_error = None
    await scene.settled(made, reconciler, "ready")


async def test_a_running_deployment_gets_the_number_of_replicas_that_is_wanted_by_now(scene: Scene) -> None:
    """Applied once, without another warm-up; how many run is recorded. A new controller has nothing to do."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    await scene.deployments.change(made, {"replicas": 3}, message="Three.")
    await scene.until(lambda: len(scene.serve.applied) > 1, reconciler)
    found = await scene.settled(made, reconciler, "ready")
    while found.ready_replicas != 3:
        found = await scene.settled(made, reconciler, "ready")
    await scene.reconciler().tick()
    assert scene.serve.applied == [(1, 1), (3, 3)]
    assert scene.serve.warm_ups == [made.id]


async def test_a_deployment_sleeps_wakes_and_fails(scene: Scene) -> None:
    """Ready while autoscaling has it at zero and while it wakes; its counts move the routing table each time.

    A replica that fails degrades it, awake or waking; then it is warmed up anew.
    """
    bounds = {"min_replicas": 0, "max_replicas": 2}
    made, reconciler = await scene.create(autoscaling=bounds, is_scale_chosen=True), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    (seen,) = scene.serve.observe()
    asleep = replace(seen, running_replicas=0, target_replicas=0)
    waking = replace(asleep, target_replicas=1)

    async def looked(observed: Application, status: str = "ready") -> tuple[int, int]:
        """How many replicas are ready and wanted by then; that the ingresses are told is part of it."""
        scene.serve.applications[made.id] = observed
        version = await scene.deployments.routes_version()
        async with asyncio.timeout(60):
            while await scene.deployments.routes_version() == version:
                await reconciler.tick()
                await asyncio.sleep(0.01)
        found = await scene.settled(made, reconciler, status)
        return found.ready_replicas, found.desired_replicas

    looks = [await looked(each) for each in (asleep, waking, seen, asleep, waking)]
    assert looks == [(0, 0), (0, 1), (1, 1), (0, 0), (0, 1)]
    assert scene.serve.warm_ups == [made.id]
    assert await looked(replace(waking, state=ApplicationState.UNHEALTHY), "degraded") == (0, 1)
    assert await looked(seen) == (1, 1)
    assert scene.serve.warm_ups == [made.id] * 2
    stages = [event["stage"] for event in await scene.deployments.events("org_a", made.id)]
    assert stages.count("degraded") == 1


async def test_autoscaling_is_switched_on_and_off_in_place(scene: Scene) -> None:
    """Bounds, other bounds, and the number of before."""
    made, reconciler = await scene.create(replicas=2), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    for fewest, most in ((1, 4), (3, 4)):
        bounds = {"min_replicas": fewest, "max_replicas": most}
        made = await scene.deployments.get(made.org, made.id)
        await scene.deployments.change(made, {"autoscaling": bounds}, message="By load.")
        await scene.until(lambda most=(fewest, most): scene.serve.applied[-1] == most, reconciler)  # type: ignore[misc]
    made = await scene.deployments.get(made.org, made.id)
    await scene.deployments.change(made, {"autoscaling": None}, message="Off.")
    await scene.until(lambda: scene.serve.applied[-1] == (2, 2), reconciler)
    assert scene.serve.applied == [(2, 2), (1, 4), (3, 4), (2, 2)]


@pytest.mark.parametrize(
    ("chosen", "change", "applied"),
    [
        ({}, None, (2, 5)),
        ({"is_scale_chosen": True}, None, (1, 1)),
        ({}, {"replicas": 4, "is_scale_chosen": True}, (4, 4)),
        ({}, {"traffic": 4}, (2, 5)),
    ],
)
async def test_the_manifest_scales_what_its_caller_did_not(
    scene: Scene, chosen: dict[str, Any], change: dict[str, Any] | None, applied: tuple[int, int]
) -> None:
    """Whether the caller asked at creation, or while the artifact was being fetched."""
    scene.preparer.autoscaling = Autoscaling(min_replicas=2, max_replicas=5)
    scene.preparer.is_done.clear()
    made, reconciler = await scene.create(**chosen), scene.reconciler()
    await scene.until(lambda: scene.preparer.calls == 1, reconciler)
    if change:
        await scene.deployments.change(made, change, message="Otherwise.")
    scene.preparer.is_done.set()
    found = await scene.settled(made, reconciler, "ready")
    assert scene.serve.applied == [applied]
    assert found.replica_range == applied


async def test_a_preparation_that_hangs_fails_at_its_bound_and_is_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from its turn: the one that waits for its turn meanwhile is as young as ever."""
    begun, canceled, clocks = list[str](), list[str](), Clocks()
    for each in (module, attempts):
        monkeypatch.setattr(each, "time", clocks)
    hanging, waiting = await scene.create(), await scene.create()

    async def prepare(deployment: Deployment, on_turn: Any) -> Prepared:
        if deployment.id == hanging.id:
            await on_turn()
        begun.append(deployment.id)
        try:
            await asyncio.Event().wait()
        finally:
            canceled.append(deployment.id)
        raise AssertionError

    monkeypatch.setattr(scene.preparer, "prepare", prepare)
    reconciler = scene.reconciler()
    await scene.until(lambda: set(begun) == {hanging.id, waiting.id}, reconciler)
    clocks.passed_s = reconciler._bounds.fetch_s + 1
    failed = await scene.settled(hanging, reconciler, "failed")
    assert failed.error is not None
    assert failed.error["code"] == "load_timeout"
    await scene.until(lambda: canceled == [hanging.id], reconciler)
    assert (await scene.settled(waiting, reconciler, "provisioning")).error is None
    await scene.deployments.transition(waiting, DeploymentStatus.DRAINING, message="deleted by its owner")
    await scene.until(lambda: canceled == [hanging.id, waiting.id], reconciler)


async def test_what_takes_controllers_down_fails_after_three(scene: Scene) -> None:
    """The fourth controller does not begin it again."""
    made = await scene.create()
    scene.preparer.is_done.clear()
    for calls in (1, 2, 3):
        scene.epoch = await scene.deployments.new_controller_epoch()
        await scene.until(lambda seen=calls: scene.preparer.calls == seen, scene.reconciler())  # type: ignore[misc]
    scene.epoch = await scene.deployments.new_controller_epoch()
    failed = await scene.settled(made, scene.reconciler(), "failed")
    assert failed.error is not None
    assert failed.error["code"] == "load_timeout"
    assert scene.preparer.calls == 3


async def test_an_operator_scales_in_serve(scene: Scene) -> None:
    """The number is the deployment's from then on, told to Serve as its own; a new controller finds it."""
    made, reconciler = await scene.create(), scene.reconciler()
    await scene.settled(made, reconciler, "ready")
    before = scene.serve.applications[made.id]
    scene.serve.applications[made.id] = replace(before, is_scalable=True, target_replicas=2)
    scene.epoch = await scene.deployments.new_controller_epoch()
    await scene.until(lambda: scene.serve.applied[-1] == (2, 2), scene.reconciler())
    found = await scene.deployments.get("org_a", made.id)
    assert found is not None
    assert (found.replicas, found.desired_replicas) == (2, 2)
    events = await scene.deployments.events("org_a", made.id)
    assert "An operator set replicas 2 in Ray Serve." in [event["message"] for event in events]
