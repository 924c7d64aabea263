"""FyreToolkit itself: a whole platform as `scripts/up` starts it, but without standby replicas; models are deployed.

The caller's plan has a limit that no load here reaches, so that limits are counted as for anyone; `unlimited` would
leave the counting out.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

import psutil

from fyretoolkit.settings import DEMO_KEY
from scripts.benchmarks.comparison.peers import UnavailableError
from scripts.benchmarks.comparison.workloads import Workload
from scripts.benchmarks.load import Target
from tests.support.platform import RunningPlatform, deployed, until

_PLANS = {"development": {"read": 1_000_000, "write": 1_000_000, "inference": 1_000_000_000}}
_NO_STANDBY = {"standby": {"size": 0}}
"""One that was taken is started anew, beside what is measured."""
_REGION = "us-east-1"
_DELETE_S = 60


class FyreSystem:
    """One platform, kept between workloads; one deployment at a time."""

    name = "fyre"
    title = "FyreToolkit"
    version = "this commit"

    def __init__(self) -> None:
        self._platform: RunningPlatform | None = None
        self._deployment: str | None = None

    def open(self) -> None:
        """Start the platform, without the demo models."""
        folder = Path(tempfile.mkdtemp(prefix="fb-"))  # short: Redis' socket lies in it
        self._platform = RunningPlatform.in_folder(folder, _NO_STANDBY, _PLANS)
        self._platform.up("--no-demo")

    def start(self, workload: Workload) -> Target:
        """Deploy the workload's package and wait until it is ready.

        Raises:
            UnavailableError: the deployment failed.
        """
        assert self._platform is not None
        body = {
            "model_uri": f"file://{workload.package}",
            "model_id": workload.name,
            "region": _REGION,
            "replicas": 1,
        }
        with self._platform.client() as client:
            deployment = deployed(client, body)
        self._deployment = deployment["id"]
        if deployment["status"] != "ready":
            raise UnavailableError(f"the deployment failed: {deployment['error']}")
        key = base64.b64encode(f"{DEMO_KEY}:".encode()).decode()
        headers = {"authorization": f"Basic {key}"}
        path = f"/predict/{workload.name}"
        return Target("127.0.0.1", self._platform.port, path, headers, workload.bodies)

    @property
    def log(self) -> Path:
        """The supervisor's."""
        assert self._platform is not None
        return self._platform.home / "run" / "supervisor.log"

    def has_ended(self) -> bool:
        """It is not running (any more)."""
        return not self.processes()

    def processes(self) -> list[psutil.Process]:
        """All but the supervisor."""
        return [] if self._platform is None else self._platform.processes()

    def stop(self) -> None:
        """Delete the deployment and wait until its replica is gone."""
        if self._platform is None or self._deployment is None:
            return
        name, self._deployment = self._deployment, None
        with self._platform.client() as client:
            client.delete(f"/deployments/{name}").raise_for_status()
        platform = self._platform
        until(lambda: not platform.titled("ModelServer"), timeout_s=_DELETE_S, what="the replica's end")

    def close(self) -> None:
        """Stop the platform and remove its files."""
        if self._platform is not None:
            self._platform.down()
            shutil.rmtree(self._platform.home.parent, ignore_errors=True)
            self._platform = None
