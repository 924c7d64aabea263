"""One deployment, a reconciler of it, and a Serve that does at once what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fyretoolkit.control import serve_driver
from fyretoolkit.control.deployments import DeploymentReconciler
from fyretoolkit.control.preparation import Prepared
from fyretoolkit.core.capacity import Ask, Node
from fyretoolkit.core.deployments import Application, ApplicationState, Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.models.manifest import Autoscaling, Resources
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import ModelSpec, resolve
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore

BATCHING = {"max_batch_size": 8, "reason": "measured", "rows_per_s": {"1": 10.5}, "max_difference": None}


class FakeServe:
    """Applications as Serve would report them; what was asked of it."""

    def __init__(self) -> None:
        self.applications: dict[str, Application] = {}
        self.nodes = [Node({}, {"CPU": 100.0})]
        self.applied: list[tuple[int, int]] = []
        self.warm_ups: list[str] = []
        self.limits_s: list[float] = []
        self.warm_up_error: Exception | None = None

    def is_running(self) -> bool:
        return True

    def observe(self) -> list[Application]:
        return list(self.applications.values())

    def known_nodes(self) -> list[Node]:
        return self.nodes

    def apply(self, deployment: Deployment, spec: ModelSpec, settings: Settings) -> None:
        fewest, most = deployment.replica_range
        self.applied.append((fewest, most))
        self.applications[deployment.application] = Application(
            deployment.application,
            ApplicationState.RUNNING,
            deployment.starting_replicas,
            replica_range=(fewest, most),
            target_replicas=deployment.starting_replicas,
        )

    def warm_up(self, application: str, timeout_s: float) -> dict[str, object]:
        self.warm_ups.append(application)
        self.limits_s.append(timeout_s)
        if self.warm_up_error:
            raise self.warm_up_error
        return BATCHING

    def start_standby(self, name: str, ask: Ask, settings: Settings) -> None:
        self.applications[name] = Application(
            name, ApplicationState.RUNNING, 1, replica_range=(1, 1), target_replicas=1, ask=ask
        )

    def cpus_of(self, spec: ModelSpec, settings: Settings) -> float:
        return 2.5

    def ask_of(self, deployment: Deployment, spec: ModelSpec, settings: Settings) -> Ask:
        return serve_driver.ask_of(deployment, spec, settings)

    def remove(self, application: str) -> None:
        del self.applications[application]


class FakePreparer:
    """Prepares at once, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0
        self.autoscaling: Autoscaling | None = None
        self.resources = Resources()
        self.is_done = asyncio.Event()
        self.is_done.set()

    async def prepare(self, deployment: Deployment, on_turn: Any) -> Prepared:
        await on_turn()
        self.calls += 1
        await self.is_done.wait()
        if self.error:
            raise self.error
        tensor = TensorSpec("x", "float32", (None, 2))
        spec = resolve(None, Signature((tensor,), (tensor,)))
        return Prepared(
            deployment.model,
            "a" * 64,
            spec.model_copy(update={"autoscaling": self.autoscaling, "resources": self.resources}),
        )


class Scene:
    """One deployment, its reconciler, a Serve."""

    def __init__(self, store: Store, serve: FakeServe, settings: Settings, epoch: int) -> None:
        self.deployments = DeploymentStore(store, 100)
        self.serve = serve
        self.settings = settings
        self.epoch = epoch
        self.preparer = FakePreparer()

    def reconciler(self) -> DeploymentReconciler:
        """A controller's reconciler, as after its start."""
        return DeploymentReconciler(self.settings, self.deployments, self.preparer, epoch=self.epoch)  # type: ignore[arg-type]

    async def create(self, **more: Any) -> Deployment:
        """A deployment that was just asked for."""
        made = Deployment(
            id=new_id("dep"), org="org_a", status=DeploymentStatus.PROVISIONING, stage=Stage.FETCHING,
            model="m", model_uri="file:///m.onnx", region="us-east-1", created=1, updated=1, stage_at=1.0,
        )  # fmt: skip
        made = replace(made, **more)
        await self.deployments.create(made)
        return made

    async def until(self, is_reached: Callable[[], bool], reconciler: DeploymentReconciler) -> None:
        """Tick until it is."""
        async with asyncio.timeout(60):
            while not is_reached():
                await reconciler.tick()
                await asyncio.sleep(0.01)

    async def settled(self, made: Deployment, reconciler: DeploymentReconciler, *statuses: str) -> Deployment:
        """The deployment once it has one of the statuses, ticking until then."""
        async with asyncio.timeout(60):
            while True:
                await reconciler.tick()
                await asyncio.sleep(0.01)
                found = await self.deployments.get("org_a", made.id)
                assert found is not None
                if found.status in statuses:
                    return found

    async def staged(self, made: Deployment, reconciler: DeploymentReconciler, stage: Stage) -> None:
        """Tick until the deployment is at the stage."""
        async with asyncio.timeout(60):
            while (found := await self.deployments.get("org_a", made.id)) is None or found.stage is not stage:
                await reconciler.tick()
                await asyncio.sleep(0.01)
