"""Ray Serve's own REST API of a running platform: what an operator's `curl` at Ray's dashboard sees and changes.

Whoever asks while Serve's controller is being replaced gets no answer, which is one of the things that trials look for:
then nothing is known, and that is said, not raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from tests.support.platform import RunningPlatform

MODEL_SERVER = "ModelServer"
"""The one Serve deployment of each application that serves a model."""
_OF_MODELS = ("dep_", "sby_")
"""How the names of those applications begin: a deployment's own, or one that stood by for whoever would come."""
_PATIENCE_S = 60.0


class ServeRest:
    """A client with the token of one running platform."""

    def __init__(self, platform: RunningPlatform) -> None:
        home = Home(platform.home)
        state = read_state(home)
        assert state is not None, "the platform does not run"
        self._http = httpx.Client(
            base_url=state.dashboard_url,
            headers={"Authorization": f"Bearer {home.token_file.read_text('utf-8').strip()}"},
            timeout=_PATIENCE_S,
            trust_env=False,
        )

    def __enter__(self) -> ServeRest:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._http.close()

    def applications(self) -> Mapping[str, Any] | None:
        """Every application of Serve by name, those being deleted included; None while Serve does not answer."""
        try:
            answer = self._http.get("/api/serve/applications/")
        except httpx.TransportError:
            return None
        if answer.status_code != 200:
            return None
        found: Mapping[str, Any] = answer.json()["applications"]
        return found

    def of_models(self) -> Mapping[str, Any]:
        """Those that serve a deployment or stand by; none while Serve does not answer."""
        found = self.applications() or {}
        return {name: each for name, each in found.items() if name.startswith(_OF_MODELS)}

    def scale(self, application: str, replicas: int) -> httpx.Response:
        """Ask Serve for so many replicas of a model's application."""
        path = f"/api/v1/applications/{application}/deployments/{MODEL_SERVER}/scale"
        return self._http.post(path, json={"target_num_replicas": replicas})


def running_pids(application: Mapping[str, Any] | None) -> set[int]:
    """The processes of an application's replicas that Serve says are running."""
    deployments = application["deployments"] if application else {}
    return {
        replica["pid"]
        for deployment in deployments.values()
        for replica in deployment["replicas"]
        if replica["state"] == "RUNNING" and replica["pid"]
    }
