"""What development mode seeds, and what production mode takes away of it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from fyretoolkit.control.demo import withdraw_demo_models
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.models import ModelStore

pytestmark = pytest.mark.anyio

PUBLIC = Model("digits", PUBLIC_ORG, ModelStatus.READY, 1, "mdl_1", artifact="a", spec={})
OURS = Deployment(
    id="dep_ours", org="org_a", status=DeploymentStatus.READY, stage=Stage.READY, model="digits",
    model_uri="models://digits", region="us-east-1", created=1, updated=1, stage_at=time.time(),
)  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


async def test_production_takes_the_demo_models_away_and_nothing_else(tmp_path: Path, redis_url: str) -> None:
    """Again and again without harm; an organization's model of the same name and its deployments stay."""
    settings = Settings(home=tmp_path, redis_url=SecretStr(redis_url), mode="production")
    store = Store(redis_url)
    models, deployments = ModelStore(store), DeploymentStore(store, 60)
    own = replace(PUBLIC, org="org_a", order="mdl_2")
    for model in (PUBLIC, replace(PUBLIC, id="other", order="mdl_3"), own):
        await models.register(model)
    for deployment in (OURS, replace(OURS, id="dep_demo", org=PUBLIC_ORG)):
        await deployments.create(deployment)
    for _ in range(2):
        await withdraw_demo_models(settings, store)
        assert [(each.org, each.id) for each in await models.page("org_a", 10)] == [("org_a", "digits")]
        assert await models.get("org_b", "digits") is None
        states = {each.id: each.status for each in await deployments.live()}
        assert states == {"dep_ours": DeploymentStatus.READY, "dep_demo": DeploymentStatus.DRAINING}
    await store.close()
