"""The Python client against the real app over real HTTP: each resource once, with either client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.client import retries
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.nodes import NodeState
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import DEMO_MODELS, Bench
from tests.support.batch_jobs import commit, complete, start_job
from tests.support.clients import WORLDS, run_scenario
from tests.support.cluster import a_node
from tests.support.http_server import serve_over_http

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("world", WORLDS)]


@dataclass
class Given:
    """What a scenario may ask for; callable from any thread, and done in the loop of the test."""

    bench: Bench
    url: str
    folder: Path
    loop: asyncio.AbstractEventLoop
    job_id: str = ""
    committed: int = 1
    nodes: tuple[NodeState, ...] = tuple(map(a_node, range(3)))

    model_path = DEMO_MODELS / "digits" / "model.onnx"

    def ready_soon(self, deployment_id: str) -> None:
        """What the controller does to a deployment that starts."""
        self._soon(self._move(deployment_id, DeploymentStatus.READY))

    def fails_soon(self, deployment_id: str) -> None:
        """What the controller does to one that cannot."""
        self._soon(self._move(deployment_id, DeploymentStatus.FAILED))

    def commit_next(self) -> None:
        """What a runner does with its next shard."""
        self._soon(commit(self.bench, self.job_id, self.committed))
        self.committed += 1

    def complete(self) -> None:
        """What a runner does at the end."""
        self._soon(complete(self.bench, self.job_id))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop)

    async def _move(self, deployment_id: str, status: DeploymentStatus) -> None:
        deployments = self.bench.services.deployments
        deployment = await deployments.get(DEMO_ORG, deployment_id)
        assert deployment is not None
        if status is DeploymentStatus.READY:
            await deployments.transition(deployment, status, stage=Stage.READY, message="It answers.")
        else:
            error = {"code": "no_capacity", "message": "No node has room."}
            await deployments.transition(deployment, status, message="No node has room.", error=error)


@pytest.fixture
async def given(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Given]:
    """The app behind real HTTP, with two public models that answer, and clients that look often."""
    monkeypatch.setattr(retries, "POLL_FIRST_S", 0.01)
    monkeypatch.setattr(retries, "POLL_MAX_S", 0.05)
    await bench.deploy("sentiment-v1")
    await bench.deploy("digits")
    await bench.services.nodes.write(Given.nodes)
    async with serve_over_http(bench.app) as url:
        yield Given(bench, url, tmp_path, asyncio.get_running_loop())


@pytest.mark.parametrize(
    "scenario",
    [
        "models",
        "predictions",
        "files",
        "jobs",
        "one_key_one_job",
        "deployments",
        "a_deployment_that_fails",
        "keys_and_organizations",
        "nodes",
        "webhooks",
        "refusals",
    ],
)
async def test_scenario(given: Given, world: str, scenario: str) -> None:
    """As its docstring says, in `tests/support/client_scenarios.py`."""
    await run_scenario(world, scenario, given.url, given)


async def test_results_come_while_the_job_runs(given: Given, world: str) -> None:
    given.job_id = await start_job(given.bench)
    await commit(given.bench, given.job_id, 0)
    await run_scenario(world, "results_while_it_runs", given.url, given)
