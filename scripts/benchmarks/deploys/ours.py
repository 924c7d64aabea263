"""Deploying on a running platform as a caller does, and when it is all as before again."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.benchmarks.behaviour.stage import NotReadyError
from tests.support.platform import RunningPlatform, until
from tests.support.serve_rest import ServeRest, running_pids

_REGION = "us-east-1"
_LOOK_S = 0.02
"""Between two looks at a deployment: the error of a measurement, and far less than it takes."""
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One platform under measurement, with the standby replicas that it keeps."""

    platform: RunningPlatform
    rest: ServeRest
    http: httpx.Client
    standby: int

    def deploy(self, body: dict[str, Any]) -> tuple[str, float]:
        """Its id, and the seconds from sending POST /deployments to an answer that says `ready`.

        Raises:
            NotReadyError: it failed.
        """
        began = time.monotonic()
        made = self.http.post("/deployments", json={"region": _REGION, **body})
        made.raise_for_status()
        name = made.json()["id"]
        while (found := self.http.get(f"/deployments/{name}").json())["status"] != "ready":
            if found["status"] == "failed" or time.monotonic() > began + _PATIENCE_S:
                raise NotReadyError(f"{name}: {found['status']}, {found['error']}")
            time.sleep(_LOOK_S)
        return name, time.monotonic() - began

    def delete(self, name: str) -> None:
        """Delete it and wait until it is gone and the pool is full."""
        self.http.delete(f"/deployments/{name}").raise_for_status()
        gone = f"/deployments/{name}"
        until(
            lambda: self.http.get(gone).status_code == 404, timeout_s=_PATIENCE_S, what=f"the end of {name}"
        )
        self.settle()

    def settle(self) -> None:
        """Wait until standby replicas run, as many as there are to be, and no others."""

        def is_settled() -> bool:
            return sum(map(len, map(running_pids, self.rest.of_models().values()))) == self.standby

        until(is_settled, timeout_s=_PATIENCE_S, what=f"{self.standby} replicas, all of them standby")

    def fall_asleep(self, name: str) -> None:
        """Wait until a deployment has no replica."""

        def is_asleep() -> bool:
            shown = self.http.get(f"/deployments/{name}").json()["replicas"]
            return bool(shown == {"desired": 0, "ready": 0}) and not self.platform.titled(name)

        until(is_asleep, timeout_s=_PATIENCE_S, what=f"{name} without a replica")

    def predict(self, model: str, inputs: list[Any]) -> float:
        """Seconds until one prediction is answered, which it must be.

        Raises:
            NotReadyError: it was answered otherwise than with 200.
        """
        body = json.dumps({"inputs": inputs, "options": {"timeout_ms": 60_000}})
        began = time.monotonic()
        answer = self.http.post(
            f"/predict/{model}", content=body, headers={"content-type": "application/json"}
        )
        took_s = time.monotonic() - began
        if answer.status_code != 200:
            raise NotReadyError(f"{model} answers {answer.status_code}: {answer.text[:300]}")
        return took_s


def new_package(package: Path, folder: Path) -> Path:
    """A copy of a package in `folder`: it computes the same, but its graph has a digest of its own."""
    import onnx

    folder.mkdir()
    for path in package.iterdir():
        if path.suffix != ".onnx":
            (folder / path.name).write_bytes(path.read_bytes())
    graph = onnx.load(package / "model.onnx")
    graph.doc_string = f"{folder.name} {time.time_ns()}"
    onnx.save(graph, folder / "model.onnx")
    return folder
