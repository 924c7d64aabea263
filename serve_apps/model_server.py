"""The replica of one deployment: a model and the one method that runs it.

A replica starts with nothing but its application's name and looks up in Redis what it has to serve, so that Ray's
checkpoint stays small, a restarted or added replica finds the same model, and an idle replica can later be given one.
It has no `__call__`: nobody reaches a model around the ingress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from ray import serve

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.runner import ModelRunner, Prediction
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore

_STORE_PATIENCE_S = 15.0
_STORE_RETRY_S = 0.25


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """What one call of a replica gives: row i of `outputs` is row `kept[i]` of the call's arrays."""

    outputs: dict[str, np.ndarray]
    kept: list[int]
    failed: dict[int, str]
    """Rows that the model cannot run, each with the reason."""
    compute_ms: float


class ModelServer:
    """One model, loaded. Runs happen on a thread of their own, so health checks are answered meanwhile."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits an async constructor
        self._application = serve.get_replica_context().app_name
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="onnx")
        store = Store(settings().redis_url.get_secret_value())
        deployments = DeploymentStore(store, settings().deployments.deleted_ttl_s)
        try:
            assignment = await _assignment(deployments, self._application)
            self._runner = await asyncio.to_thread(_load, assignment)
            await self.warm_up()
        except Exception as error:
            code, message = _failure(error)
            await deployments.report_load_failure(self._application, code, message)
            raise
        finally:
            await store.close()

    async def predict(self, arrays: Mapping[str, np.ndarray]) -> RunAnswer:
        """Run the model over arrays that fit its signature; rows that fail are named, the others answered."""
        started = time.perf_counter()
        run = partial(self._runner.run_isolating, arrays)
        ran = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        return RunAnswer(ran.outputs, ran.kept, ran.failed, (time.perf_counter() - started) * 1000)

    async def warm_up(self) -> None:
        """Run the model's own example once, from JSON to JSON.

        Raises:
            PlatformError: `warmup_failed`.
        """
        run = partial(self._runner.predict, self._runner.example_items())
        for outcome in await asyncio.get_running_loop().run_in_executor(self._threads, run):
            if not isinstance(outcome, Prediction):
                raise PlatformError("warmup_failed", f"The first inference failed: {outcome.message}")


async def _assignment(deployments: DeploymentStore, application: str) -> Assignment:
    """What to serve. A store that is away is asked again for a while: its restart must not fail a deployment."""
    deadline = time.monotonic() + _STORE_PATIENCE_S
    while True:
        try:
            assignment = await deployments.assignment(application)
        except PlatformError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_STORE_RETRY_S)
            continue
        if assignment is None:
            raise PlatformError("replica_failed", "Nothing is assigned to this application.")
        return assignment


def _load(assignment: Assignment) -> ModelRunner:
    files = ArtifactStore(settings().artifacts_dir).open(assignment.artifact)
    spec = ModelSpec.from_json(assignment.spec)
    return ModelRunner.load(files, spec, num_gpus=assignment.num_gpus, threads=assignment.threads)


def _failure(error: Exception) -> tuple[str, str]:
    if isinstance(error, PlatformError):
        return error.code, error.message
    return "replica_failed", f"{type(error).__name__}: {error}"
