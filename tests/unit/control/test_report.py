"""What the controller shows a scraper, read from a real store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fyretoolkit.control.report import Reporter
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposition import SERIES
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import DeploymentStatus, JobStatus, Stage
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.jobs import JobStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@dataclass
class Scene:
    """A reporter, what it showed, and a clock that the test moves."""

    deployments: DeploymentStore
    jobs: JobStore
    now: float = 100.0
    shown: dict[tuple[str, ...], float] = field(default_factory=dict)
    silence_s: float = 0.5
    inspections: int = 2

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """As an exporter keeps it."""
        assert tuple(labels) == SERIES[name].labels
        self.shown[name, *labels.values()] = value

    def reporter(self) -> Reporter:
        """One that shows it here."""
        return Reporter(
            self,
            self.deployments,
            self.jobs,
            DeliveryStore(self.jobs._store),
            silence_s=lambda: self.silence_s,
            inspections=lambda: self.inspections,
            standby=lambda: {"desired": 2, "ready": 1},
            clock=lambda: self.now,
        )

    async def deploy(self, status: DeploymentStatus, **values: Any) -> Deployment:
        """A deployment in this state."""
        made = Deployment(
            id=new_id("dep"),
            org="org_a",
            status=status,
            stage=Stage.READY,
            model="m",
            model_uri="",
            region="r",
            updated=1,
            stage_at=1.0,
            **{"created": int(time.time()), **values},
        )
        await self.deployments.create(made)
        return made

    async def submit(self, status: JobStatus) -> None:
        """A job in this state."""
        made = BatchJob(
            id=new_id("job"),
            org="org_a",
            status=status,
            model="m",
            artifact="0" * 64,
            spec={},
            input_url="file:///in.jsonl",
            created=1,
        )
        await self.jobs.create(made)


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    store = Store(redis_url)
    yield Scene(DeploymentStore(store, 60), JobStore(store, 60))
    await store.close()


async def test_an_empty_platform_shows_every_state_at_none(scene: Scene) -> None:
    """A panel shows 0 where nothing is, not a gap."""
    await scene.reporter().tick()
    assert {key: value for key, value in scene.shown.items() if key[0] == "fyre_deployments"} == {
        ("fyre_deployments", status): 0
        for status in ("provisioning", "ready", "degraded", "draining", "failed")
    }
    assert scene.shown["fyre_jobs", "queued"] == scene.shown["fyre_jobs", "processing"] == 0
    assert scene.shown["fyre_webhook_deliveries", "waiting"] == 0
    assert scene.shown["fyre_webhook_deliveries", "sending"] == 0
    assert scene.shown["fyre_provisioning_age_seconds",] == 0
    assert scene.shown["fyre_controller_silence_seconds",] == 0.5
    assert scene.shown["fyre_inspections",] == 2
    assert scene.shown["fyre_standby_replicas", "desired"] == 2
    assert scene.shown["fyre_standby_replicas", "ready"] == 1


async def test_deployments_and_jobs_are_counted_by_state(scene: Scene) -> None:
    """The replicas of those that serve are shown beside, of no other."""
    serving = await scene.deploy(DeploymentStatus.READY, replicas=3, ready_replicas=2)
    gone = await scene.deploy(DeploymentStatus.DEGRADED)
    await scene.deploy(DeploymentStatus.FAILED)
    await scene.deploy(DeploymentStatus.PROVISIONING, created=int(time.time()) - 500)
    await scene.deploy(DeploymentStatus.PROVISIONING)
    await scene.submit(JobStatus.QUEUED)
    await scene.submit(JobStatus.QUEUED)
    await scene.submit(JobStatus.PROCESSING)
    await scene.reporter().tick()
    shown = scene.shown
    assert shown["fyre_deployments", "ready"] == shown["fyre_deployments", "degraded"] == 1
    assert shown["fyre_deployments", "provisioning"] == 2
    assert (shown["fyre_jobs", "queued"], shown["fyre_jobs", "processing"]) == (2, 1)
    assert 500 <= shown["fyre_provisioning_age_seconds",] < 800
    replicas = {key[1:]: value for key, value in shown.items() if key[0] == "fyre_deployment_replicas"}
    assert replicas == {
        (serving.id, "m", "r", "desired"): 3,
        (serving.id, "m", "r", "ready"): 2,
        (gone.id, "m", "r", "desired"): 1,
        (gone.id, "m", "r", "ready"): 0,
    }


async def test_the_store_is_read_at_most_every_four_seconds(scene: Scene) -> None:
    """The loop looks each second, and whenever it is woken."""
    reporter = scene.reporter()
    await reporter.tick()
    scene.silence_s, scene.now = 9.0, 103.9
    await reporter.tick()
    assert scene.shown["fyre_controller_silence_seconds",] == 0.5
    scene.now = 104.0
    await reporter.tick()
    assert scene.shown["fyre_controller_silence_seconds",] == 9.0


async def test_without_the_store_the_controller_still_shows_itself(scene: Scene) -> None:
    """What it cannot read it does not show, rather than an old number."""

    class Away(DeploymentStore):
        async def live(self) -> list[Deployment]:
            raise PlatformError("unavailable")

    scene.deployments = Away(scene.deployments._store, 60)
    with pytest.raises(PlatformError):
        await scene.reporter().tick()
    assert {name for name, *_ in scene.shown} == {
        "fyre_controller_silence_seconds", "fyre_inspections", "fyre_standby_replicas",
    }  # fmt: skip
