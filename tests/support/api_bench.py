"""The real app over the real embedded Redis, with models run in this process instead of by Ray."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from fyretoolkit.api.app import create_app
from fyretoolkit.api.services import Services, open_services
from fyretoolkit.control.demo import add_demo_key
from fyretoolkit.core.api_keys import new_key
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG, Organization, Scope
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.package import PackageFiles, files_in
from fyretoolkit.models.runner import ModelRunner
from fyretoolkit.models.session import open_session
from fyretoolkit.models.spec import ModelSpec, resolve
from fyretoolkit.serving.inference import answer
from fyretoolkit.serving.replica import Load, ReplicaAnswer
from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT, Settings
from fyretoolkit.store import keys
from fyretoolkit.store.connection import Store

DEMO_MODELS = PROJECT_ROOT / "configs" / "demo_models"
REGION = "us-east-1"


@cache
def load_package(folder: Path) -> tuple[PackageFiles, ModelSpec, ModelRunner]:
    """A package's runner, loaded once in a test session."""
    files = files_in(folder)
    spec = resolve(files.manifest, open_session(files.onnx).signature)
    return files, spec, ModelRunner.load(files, spec)


@dataclass
class InProcessCall:
    """Runs the model of each application in this process, as its replica would."""

    runners: dict[str, ModelRunner] = field(default_factory=dict)
    delay_s: float = 0.0
    calls: int = 0
    kept: frozenset[str] = frozenset()

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> ReplicaAnswer:
        assert timeout_s > 0
        self.calls += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return answer(self.runners[application], arrays)

    async def wake(self, application: str, timeout_s: float) -> None:
        assert timeout_s > 0
        assert application in self.runners

    async def forget(self, applications: frozenset[str]) -> None:
        self.kept = applications


@dataclass
class Bench:
    """One platform without Ray."""

    services: Services
    app: FastAPI
    call: InProcessCall
    http: httpx.AsyncClient
    control: dict[str, str]

    async def add_key(self, org: str, *scopes: Scope, plan: str = "unlimited") -> str:
        """A new key of an organization, made with it if it is new; every scope unless some are named."""
        key, record = new_key(org, "test", scopes or Scope, created=1)
        organization = Organization(org, org, plan, created=1, order=new_id("org"))
        await self.services.api_keys.add(record, organization=organization)
        return key

    async def is_watching(self) -> bool:
        """Whether routing table and keyring hear of changes."""
        ((_, listeners),) = await self.services.store.redis.pubsub_numsub(keys.CHANGES_CHANNEL)
        return int(listeners) >= 2

    async def add_model(self, name: str, *, org: str = PUBLIC_ORG, folder: Path | None = None) -> Model:
        """Register a package; a demo model unless `folder` is another."""
        files, spec, _ = load_package(folder or DEMO_MODELS / name)
        artifact = ArtifactStore(self.services.settings.artifacts_dir).put(files)
        return await self.services.models.register(
            Model(
                id=name,
                org=org,
                status=ModelStatus.READY,
                created=int(time.time()),
                order=new_id("mdl"),
                description=spec.description,
                artifact=artifact.sha256,
                size_bytes=artifact.size_bytes,
                source_uri=f"models://{name}",
                spec=spec.to_json(),
            )
        )

    async def deploy(
        self, name: str, *, org: str = PUBLIC_ORG, folder: Path | None = None, **changes: Any
    ) -> Deployment:
        """Register a package and route to a deployment of it, ready unless `changes` say otherwise."""
        deployment = await self.add_deployment(name, org=org, folder=folder, **changes)
        await self.services.routes.refresh()
        return deployment

    async def add_deployment(
        self, name: str, *, org: str = PUBLIC_ORG, folder: Path | None = None, **changes: Any
    ) -> Deployment:
        """The same, without telling the routing table."""
        model = await self.add_model(name, org=org, folder=folder)
        now = time.time()
        deployment = Deployment(
            id=new_id("dep"),
            org=org,
            status=DeploymentStatus.READY,
            stage=Stage.READY,
            model=name,
            model_uri=f"models://{name}",
            region=REGION,
            created=int(now),
            updated=int(now),
            stage_at=now,
            ready_replicas=1,
            artifact=model.artifact,
            spec=model.spec,
        )
        deployment = replace(deployment, **changes)
        await self.services.deployments.create(deployment)
        self.call.runners[deployment.id] = load_package(folder or DEMO_MODELS / name)[2]
        return deployment

    async def request(self, method: str, path: str, *, key: str | None = DEMO_KEY, **options: Any) -> Any:
        """One request, with Basic auth unless `key` is None."""
        auth = httpx.BasicAuth(key, "") if key else None
        return await self.http.request(method, path, auth=auth, **options)

    async def predict(self, model: str, inputs: Any, **fields: Any) -> Any:
        """One prediction with the demo key."""
        return await self.request("POST", f"/predict/{model}", json={"inputs": inputs, **fields})

    async def create_deployment(self, **fields: Any) -> Any:
        """One `POST /deployments` with the demo key."""
        body = {"model_uri": "models://digits", "region": REGION, **fields}
        return await self.request("POST", "/deployments", json=body)


PERMANENT = re.compile(
    r"fyre:(key:.*|controller:epoch|routes:version|deployments|jobs:(open|waiting|running|started|unassembled)"
    r"|runners:standby|downloads:secret|files"
    r"|outbox(:turns|:sending|:senders)?|models:preparing|organizations|organization:[^:]+|operators|assignment:.*"
    r"|org:[^:]+:(outbox(:.+)?|webhook_secret|keys|active_keys|admins|models(:[a-z]+)?|deployments(:by_model)?|jobs|files(:sizes)?|model:[^:]+"
    r"|deployment:[^:]+(:events)?|job:[^:]+(:shards)?))"
)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    """Look again and again; fails when it does not come true."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another task or process
            await asyncio.sleep(0.01)


async def keys_without_expiry(store: Store) -> list[str]:
    """Keys that would stay for ever though `store/keys.py` does not list their kind as permanent."""
    found = [key async for key in store.redis.scan_iter("*", count=1000)]
    return [key for key in found if not PERMANENT.fullmatch(key) and await store.redis.ttl(key) == -1]


@asynccontextmanager
async def open_bench(settings: Settings) -> AsyncIterator[Bench]:
    """A platform with the demo key alone, if the Redis of `settings` is empty."""
    call = InProcessCall()
    control = {"serve": "ok", "controller": "ok"}

    async def state() -> dict[str, str]:
        return dict(control)

    services = open_services(settings, call, state)
    await add_demo_key(services.store)
    app = create_app(services)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.localhost") as http,
    ):
        yield Bench(services, app, call, http, control)
