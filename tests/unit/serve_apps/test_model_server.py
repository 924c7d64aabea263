"""How the replicas of a deployment agree on their batching, over a real Redis; Serve is told nothing of it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from fyretoolkit.core.batching import Batching
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.runner import ModelRunner, Ran
from fyretoolkit.serving.replica import Load, ReplicaAnswer
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore
from serve_apps import model_server as module
from serve_apps.model_server import ModelFailure, ModelServer
from tests.support import onnx_graphs
from tests.support.model_packages import write_package

pytestmark = pytest.mark.anyio
_LIMIT_S = 60


@pytest.fixture
def anyio_backend() -> str:
    """Serve runs on asyncio."""
    return "asyncio"


class Scene:
    """One deployment of a model whose answers depend on company, and its replicas."""

    def __init__(
        self, deployments: DeploymentStore, deployment: Deployment, epoch: int, context: SimpleNamespace
    ) -> None:
        self.context = context
        self.deployments = deployments
        self.deployment = deployment
        self.epoch = epoch
        self.replicas: list[ModelServer] = []

    async def start(self) -> ModelServer:
        """A replica, as Serve starts one."""
        replica = ModelServer.__new__(ModelServer)
        await replica.__init__()  # type: ignore[misc]
        self.replicas.append(replica)
        return replica

    async def record(self, status: DeploymentStatus, batching: dict[str, object] | None) -> None:
        """What the controller writes when a deployment is ready."""
        assert await self.deployments.transition(
            self.deployment, status, epoch=self.epoch, message="Said by the test.", batching=batching
        )


@pytest.fixture
async def scene(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A deployment that is being provisioned, its model assigned."""
    settings = Settings(home=tmp_path, redis_url=SecretStr(redis_url))
    files = write_package(tmp_path / "package", onnx_graphs.minus_batch_mean(shape=["N", 1]))
    spec, artifact = inspect(files, timeout_s=60), ArtifactStore(settings.artifacts_dir).put(files)
    deployment = Deployment(
        id=new_id("dep"), org="org_a", status=DeploymentStatus.PROVISIONING, stage=Stage.INSPECTING, model="m",
        model_uri="file:///m.onnx", region="us-east-1", created=1, updated=1, stage_at=1.0,
    )  # fmt: skip
    monkeypatch.setattr(module, "settings", lambda: settings)
    monkeypatch.setattr(module, "_RECORD_LOOK_S", 0.01)
    context = SimpleNamespace(app_name=deployment.id)
    monkeypatch.setattr(module.serve, "get_replica_context", lambda: context)
    store = Store(redis_url)
    deployments = DeploymentStore(store, 100)
    await deployments.create(deployment)
    scene = Scene(deployments, deployment, await deployments.new_controller_epoch(), context)
    assignment = Assignment(
        deployment.id, "org_a", "m", artifact.sha256, spec.to_json(), "us-east-1", epoch=scene.epoch
    )
    assert await deployments.advance(
        deployment, Stage.STARTING, epoch=scene.epoch, message="Starting.", assignment=assignment
    )
    yield scene
    for replica in scene.replicas:
        if (watch := getattr(replica, "_watch", None)) is not None:
            while not watch.done():  # redis-py swallows a cancellation that comes while it connects
                watch.cancel()
                await asyncio.wait({watch}, timeout=0.1)
    await store.close()


async def answers(replica: ModelServer) -> list[bytes]:
    """What it says to two rows in one call."""
    rows = {"x": np.array([[1.0], [3.0]], np.float32)}
    answer = await replica.predict(rows, Load("test", 0.0, 0))
    assert isinstance(answer, ReplicaAnswer)
    return list(answer.results)


NOTHING = Ran([], [], {})
ALONE = [b'{"y":0.0}', b'{"y":0.0}']
TOGETHER = [b'{"y":-1.0}', b'{"y":1.0}']


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for what a task of a replica brings about."""
    async with asyncio.timeout(_LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - the task under test has no event to wait for
            await asyncio.sleep(0.01)


async def test_the_first_warm_up_measures_and_the_replica_keeps_to_it(scene: Scene) -> None:
    """Rows of one call are company too; before it knows, a replica runs every row alone."""
    replica = await scene.start()
    assert await answers(replica) == ALONE
    found = Batching.from_json(await replica.warm_up())
    assert (found.max_batch_size, found.reason) == (1, "depends_on_company")
    assert await answers(replica) == ALONE


async def test_a_later_replica_uses_what_is_on_record(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it would find another size itself; nothing is measured again."""
    found = {"max_batch_size": 2, "reason": "manifest", "rows_per_s": {"1": 5.0}, "max_difference": 1.0}
    await scene.record(DeploymentStatus.READY, found)
    monkeypatch.setattr(ModelRunner, "measure", lambda _: pytest.fail("measured again"))
    replica = await scene.start()
    assert await answers(replica) == TOGETHER
    assert await replica.warm_up() == found


async def test_a_replica_that_started_beside_the_one_that_measures_learns_from_the_record(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs every row alone until then."""
    monkeypatch.setattr(ModelRunner, "measure", lambda _: pytest.fail("measured again"))
    replica = await scene.start()
    assert await answers(replica) == ALONE
    found = {"max_batch_size": 2, "reason": "manifest", "rows_per_s": {"1": 5.0}, "max_difference": 1.0}
    await scene.record(DeploymentStatus.READY, found)
    await until(lambda: replica._batching is not None)
    assert await answers(replica) == TOGETHER


async def test_a_deployment_that_was_made_ready_without_is_measured_by_its_next_replica(scene: Scene) -> None:
    """An older version of the platform recorded nothing."""
    await scene.record(DeploymentStatus.READY, None)
    replica = await scene.start()
    assert replica._batching is not None
    assert replica._batching.max_batch_size == 1


async def test_a_store_that_goes_away_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that did not learn its batching answers meanwhile, row by row."""
    replica = await scene.start()
    asked = asyncio.Event()
    read = DeploymentStore.get

    async def away(self: DeploymentStore, org: str, name: str) -> Deployment | None:
        asked.set()
        raise module.PlatformError("unavailable")

    monkeypatch.setattr(DeploymentStore, "get", away)
    await asyncio.wait_for(asked.wait(), _LIMIT_S)
    assert await answers(replica) == ALONE
    monkeypatch.setattr(DeploymentStore, "get", read)
    found = {"max_batch_size": 2, "reason": "manifest", "rows_per_s": {"1": 5.0}, "max_difference": 1.0}
    await scene.record(DeploymentStatus.READY, found)
    await until(lambda: replica._batching is not None)


async def test_only_what_was_quick_runs_on_the_loop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes time leaves the loop to health checks; the first one is not known to be quick."""
    replica = await scene.start()
    threads: list[str] = []
    compute_ms = [0.1, 0.1, 100.0, 100.0, 0.1, 0.1]

    def run(*_: object) -> tuple[Ran, float]:
        threads.append(threading.current_thread().name)
        return NOTHING, compute_ms[len(threads) - 1]

    monkeypatch.setattr(module, "run", run)
    for _ in compute_ms:
        await replica.predict({"x": np.ones((1, 1), np.float32)}, Load("ing_a", 0.0, 0))
    on_loop = [name == threading.main_thread().name for name in threads]
    assert on_loop == [False, True, True, False, False, True]


async def test_more_than_was_quick_does_not_run_on_the_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One short text says nothing of a long one."""
    replica = await scene.start()
    threads: list[str] = []

    def run(*_: object) -> tuple[Ran, float]:
        threads.append(threading.current_thread().name)
        return NOTHING, 0.1

    monkeypatch.setattr(module, "run", run)
    for text in ("ab", "cd", "much longer than that", "ef"):
        rows = np.array([text], dtype=object)
        await replica.predict({"text": rows}, Load("ing_a", 0.0, 0))
    on_loop = [name == threading.main_thread().name for name in threads]
    assert on_loop == [False, True, False, True]


@pytest.mark.parametrize("most", [0, 50_000])
async def test_results_are_written_wherever_they_may(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Few values on the loop, many on a thread: the answer is the same."""
    replica = await scene.start()
    monkeypatch.setattr(module, "_MOST_VALUES", most)
    threads: list[str] = []
    encode = module.encode

    def noting(*arguments: Any) -> ReplicaAnswer:
        threads.append(threading.current_thread().name)
        return encode(*arguments)

    monkeypatch.setattr(module, "encode", noting)
    assert await answers(replica) == ALONE
    assert [name == threading.main_thread().name for name in threads] == [most > 0]


class Rows(np.ndarray):
    """An array that a weak reference may watch."""

    __hash__ = object.__hash__


class OneAtATime:
    """Stands in for a run of the model: it takes until `may_end`, and no other may begin meanwhile."""

    def __init__(self) -> None:
        self.is_running = False
        self.may_end = threading.Event()

    def __call__(self, *_: object) -> tuple[Ran, float]:
        assert not self.is_running
        self.is_running = True
        assert self.may_end.wait(60)
        self.is_running = False
        return NOTHING, 0.1


@pytest.mark.parametrize("is_first_wanted", [True, False])
async def test_runs_never_overlap(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, is_first_wanted: bool
) -> None:
    """Quick calls that come while a slow one runs wait behind it, also when nobody waits for that one any more."""
    replica = await scene.start()
    run = OneAtATime()
    monkeypatch.setattr(module, "run", run)
    rows = {"x": np.ones((1, 1), np.float32)}
    first = asyncio.create_task(replica.predict(rows, Load("ing_a", 0.0, 0)))
    await until(lambda: run.is_running)
    if not is_first_wanted:
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    replica._quick_size = 1000
    others = [asyncio.create_task(replica.predict(rows, Load("ing_a", 0.0, 0))) for _ in range(2)]
    await asyncio.sleep(0)
    run.may_end.set()
    for call in others + ([first] if is_first_wanted else []):
        assert isinstance(await call, ReplicaAnswer)


async def test_a_run_that_nobody_waits_for_does_not_begin(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that gave up while another's run was under way leave nothing behind it: no run, and no arrays."""
    replica = await scene.start()
    run, begun, held = OneAtATime(), 0, weakref.WeakSet[Rows]()

    def counting(*arguments: object) -> tuple[Ran, float]:
        nonlocal begun
        begun += 1
        return run(*arguments)

    def call() -> asyncio.Task[object]:
        rows = Rows((1, 1), np.float32)
        held.add(rows)
        return asyncio.create_task(replica.predict({"x": rows}, Load("ing_a", 0.0, 0)))

    monkeypatch.setattr(module, "run", counting)
    first = call()
    await until(lambda: run.is_running)
    others = [call() for _ in range(100)]
    await asyncio.sleep(0)
    for other in others:
        other.cancel()
    await asyncio.wait(others)
    assert all(other.cancelled() for other in others)
    others.clear()
    del other
    await until(lambda: replica._queued == 1)
    gc.collect()  # of tracebacks, which hold what was sent
    assert len(held) == 1
    run.may_end.set()
    assert isinstance(await first, ReplicaAnswer)
    assert isinstance(await call(), ReplicaAnswer)
    assert (begun, replica._queued) == (2, 0)


async def test_one_that_stands_by_loads_when_it_is_called(scene: Scene) -> None:
    """It was up without a model; it was given one; its warm-up, and any call, finds it loaded."""
    assignment = await scene.deployments.assignment(scene.deployment.id)
    assert assignment is not None
    scene.context.app_name = name = new_id("sby")
    replica = await scene.start()
    refused = await replica.predict({"x": np.array([[1.0]], np.float32)}, Load("test", 0.0, 0))
    assert isinstance(refused, ModelFailure)
    assert refused.code == "unavailable"
    assert await scene.deployments.advance(
        scene.deployment, Stage.STARTING, epoch=scene.epoch, message="", assignment=assignment, standby=name
    )
    assert (await replica.warm_up())["max_batch_size"] == 1
    assert await answers(replica) == ALONE


async def test_calls_that_come_together_load_it_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call loads, the others wait for that."""
    assignment = await scene.deployments.assignment(scene.deployment.id)
    assert assignment is not None
    scene.context.app_name = name = new_id("sby")
    replica = await scene.start()
    loads: list[Assignment] = []
    load = module._load
    monkeypatch.setattr(module, "_load", lambda found: loads.append(found) or load(found))
    assert await scene.deployments.advance(
        scene.deployment, Stage.STARTING, epoch=scene.epoch, message="", assignment=assignment, standby=name
    )
    assert await asyncio.gather(answers(replica), answers(replica)) == [ALONE, ALONE]
    assert len(loads) == 1


async def test_one_of_a_deployment_does_not_wait_for_a_model(scene: Scene) -> None:
    """Its application was started for a model: that there is none is a failure, which the controller reads."""
    scene.context.app_name = name = new_id("dep")
    with pytest.raises(PlatformError):
        await scene.start()
    failure = await scene.deployments.load_failure(name)
    assert failure == ("replica_failed", "Nothing is assigned to this application.")


async def test_a_caller_that_goes_takes_no_load_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for less than a load takes: it goes on all the same, once, and the last one finds it done."""
    assignment = await scene.deployments.assignment(scene.deployment.id)
    assert assignment is not None
    scene.context.app_name = name = new_id("sby")
    replica = await scene.start()
    may_load, loads, load = threading.Event(), 0, module._load

    def slow(found: Assignment) -> ModelRunner:
        nonlocal loads
        loads += 1
        assert may_load.wait(_LIMIT_S)
        return load(found)

    monkeypatch.setattr(module, "_load", slow)
    assert await scene.deployments.advance(
        scene.deployment, Stage.STARTING, epoch=scene.epoch, message="", assignment=assignment, standby=name
    )
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answers(replica), 0.05)
    may_load.set()
    assert await answers(replica) == ALONE
    assert loads == 1


async def test_one_that_cannot_load_its_model_is_unhealthy(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve replaces it; callers meanwhile are sent away at once, and the reason is there to be read."""
    assignment = await scene.deployments.assignment(scene.deployment.id)
    assert assignment is not None
    scene.context.app_name = name = new_id("sby")
    replica = await scene.start()
    await replica.check_health()
    loads: list[Assignment] = []

    def broken(found: Assignment) -> ModelRunner:
        loads.append(found)
        raise PlatformError("artifact_not_found", "It is gone.")

    monkeypatch.setattr(module, "_load", broken)
    assert await scene.deployments.advance(
        scene.deployment, Stage.STARTING, epoch=scene.epoch, message="", assignment=assignment, standby=name
    )
    for _ in range(2):
        refused = await replica.predict({"x": np.array([[1.0]], np.float32)}, Load("test", 0.0, 0))
        assert isinstance(refused, ModelFailure)
        assert refused.code == "unavailable"
    assert len(loads) == 1
    assert await scene.deployments.load_failure(name) == ("artifact_not_found", "It is gone.")
    with pytest.raises(PlatformError):
        await replica.check_health()


async def test_a_farewell_lasts_as_long_as_a_prediction_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither less, for callers wait for answers that are under way, nor more, for then nobody does."""
    is_closed = asyncio.Event()
    limits = SimpleNamespace(max_timeout_ms=60_000)
    monkeypatch.setattr(module, "settings", lambda: SimpleNamespace(limits=limits))
    channel: Any = SimpleNamespace(close=is_closed.wait)
    last = asyncio.create_task(module._say_farewell(channel))
    await asyncio.sleep(0)  # it has begun
    limits.max_timeout_ms = 1
    overdue = asyncio.create_task(module._say_farewell(SimpleNamespace(close=asyncio.Event().wait)))  # type: ignore[arg-type]
    await asyncio.wait({overdue}, timeout=_LIMIT_S)
    assert isinstance(overdue.exception(), TimeoutError)
    is_closed.set()
    await last
