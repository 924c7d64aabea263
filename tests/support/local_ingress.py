"""An ingress without Ray, on the Redis and home of a running platform: `python -m tests.support.local_ingress PORT`.

The real app under plain uvicorn. Models run in this process, looked up as a replica looks its own up. What it cannot
show is what stands before an ingress: Serve's HTTP server and the proxy.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import uvicorn

import fyretoolkit
from fyretoolkit.api.app import create_app
from fyretoolkit.api.callbacks import protocol_of
from fyretoolkit.api.services import open_services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.runner import ModelRunner
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.serving.inference import answer
from fyretoolkit.serving.replica import Load, ReplicaAnswer
from fyretoolkit.settings import Settings, load_settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import Assignment, DeploymentStore


class AssignedCall:
    """Runs the model that is assigned to an application in this process, loaded at its first call."""

    def __init__(self, settings: Settings) -> None:
        store = Store(settings.redis_url.get_secret_value())
        self._deployments = DeploymentStore(store, settings.deployments.deleted_ttl_s)
        self._artifacts = ArtifactStore(settings.artifacts_dir)
        self._runners: dict[str, ModelRunner] = {}

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> ReplicaAnswer:
        """One run, cut off at its deadline."""
        try:
            return await asyncio.wait_for(self._run(application, arrays), timeout_s)
        except TimeoutError as error:
            raise PlatformError("deadline_exceeded") from error

    async def wake(self, application: str, timeout_s: float) -> None:
        """Nothing sleeps here."""

    async def forget(self, applications: frozenset[str]) -> None:
        """Let go of the models of all other applications."""
        self._runners = {name: runner for name, runner in self._runners.items() if name in applications}

    async def _run(self, application: str, arrays: Mapping[str, np.ndarray]) -> ReplicaAnswer:
        if application not in self._runners:
            assignment = await self._deployments.assignment(application)
            if assignment is None:
                raise PlatformError("unavailable", retry_after_s=1)
            self._runners[application] = await asyncio.to_thread(self._load, assignment)
        return await asyncio.to_thread(answer, self._runners[application], arrays)

    def _load(self, assignment: Assignment) -> ModelRunner:
        files = self._artifacts.open(assignment.artifact)
        return ModelRunner.load(files, ModelSpec.from_json(assignment.spec), threads=assignment.threads)


async def _state() -> dict[str, str]:
    return {"serve": "ok", "controller": "ok"}


def main(port: int) -> None:
    """Serve until ended. `FYRE_COPY` is the folder that the product must have been imported from."""
    copy = Path(os.environ["FYRE_COPY"]).resolve()
    assert Path(fyretoolkit.__file__).resolve().is_relative_to(copy), fyretoolkit.__file__
    settings = load_settings(os.environ)
    app = create_app(open_services(settings, AssignedCall(settings), _state))
    protocol = protocol_of(app.state.predict)
    uvicorn.run(app, http=protocol, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
