"""What a new copy is seeded with in development mode: the demo key, and the demo models registered and deployed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from fyretoolkit.core.api_keys import DEMO_KEY_ID, ApiKey, key_digest, key_hint
from fyretoolkit.core.deployments import PREFIX, Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG, Organization, Scope
from fyretoolkit.core.organizations import PREFIX as ORGANIZATION_PREFIX
from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.package import open_package
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT, Settings
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.models import ModelStore

DEMO_MODELS_DIR = PROJECT_ROOT / "configs" / "demo_models"


async def add_demo_key(store: Store) -> None:
    """The key that the documentation uses, and its organization. Never called in production mode."""
    now = int(time.time())
    key = ApiKey(
        id=DEMO_KEY_ID,
        org=DEMO_ORG,
        digest=key_digest(DEMO_KEY),
        scopes=tuple(Scope),
        name="demo",
        created=now,
        hint=key_hint(DEMO_KEY),
    )
    organization = Organization(DEMO_ORG, "demo", "development", now, order=new_id(ORGANIZATION_PREFIX))
    await ApiKeyStore(store).add(key, organization=organization)


async def add_demo_models(settings: Settings, store: Store) -> list[str]:
    """Register and deploy every package under `configs/demo_models`; the ids of their deployments.

    Models that are registered are left as they are, deployments that live are kept.
    """
    packages = sorted(path.parent for path in DEMO_MODELS_DIR.glob("*/model.yaml"))
    models = ModelStore(store)
    await asyncio.gather(*(_register(settings, models, package) for package in packages))
    deployments = DeploymentStore(store, settings.deployments.deleted_ttl_s)
    live = {
        each.model: each.id
        for each in await deployments.live()
        if each.org == PUBLIC_ORG and each.status not in (DeploymentStatus.DRAINING, DeploymentStatus.FAILED)
    }
    return [
        live.get(package.name) or await _deploy(settings, deployments, package.name) for package in packages
    ]


async def withdraw_demo_models(settings: Settings, store: Store) -> None:
    """Take away what development mode left in this home. What organizations deployed of it has its own artifact."""
    deployments = DeploymentStore(store, settings.deployments.deleted_ttl_s)
    for deployment in await deployments.live():
        if deployment.org == PUBLIC_ORG:
            await deployments.transition(
                deployment, DeploymentStatus.DRAINING, message="There are no demo models in production mode."
            )
    await ModelStore(store).remove_public()


async def _register(settings: Settings, models: ModelStore, package: Path) -> None:
    if await models.get(PUBLIC_ORG, package.name) is not None:
        return
    limit = settings.limits.max_artifact_bytes
    files = await asyncio.to_thread(open_package, package, package, limit)
    spec = await asyncio.to_thread(inspect, files, settings.deployments.inspect_timeout_s)
    artifact = await asyncio.to_thread(open_artifacts(settings).put, files)
    await models.register(
        Model(
            id=package.name,
            org=PUBLIC_ORG,
            status=ModelStatus.READY,
            created=int(time.time()),
            order=new_id("mdl"),
            description=spec.description,
            artifact=artifact.sha256,
            size_bytes=artifact.size_bytes,
            source_uri=f"models://{package.name}",
            spec=spec.to_json(),
        )
    )


async def _deploy(settings: Settings, deployments: DeploymentStore, model_id: str) -> str:
    now = time.time()
    deployment = Deployment(
        id=new_id(PREFIX),
        org=PUBLIC_ORG,
        status=DeploymentStatus.PROVISIONING,
        stage=Stage.FETCHING,
        model=model_id,
        model_uri=f"models://{model_id}",
        region=next(iter(settings.regions)),
        created=int(now),
        updated=int(now),
        stage_at=now,
        is_model_id_chosen=True,
    )
    await deployments.create(deployment)
    return deployment.id
