"""An operator scales a deployment where Ray Serve lets operators scale, and our controller is killed: the scale stays.

A deployment with a fixed number of replicas gets two through the REST endpoint of Ray's dashboard. Then `kill -9` hits
our controller, which comes back with nothing but what is in Redis: both replicas must stay, none restarted, and our API
must say two as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarks.behaviour.stage import Finding, conclude, deploy, introduce, running_platform
from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.trials.faults.churn import persist
from scripts.trials.faults.kills import CONTROLLER, is_controller_back
from tests.support.platform import RunningPlatform
from tests.support.serve_rest import ServeRest, running_pids

HELP = "two replicas through Ray Serve's REST endpoint, our controller killed: still two, and our API says so"

_MODEL = "scaled-by-hand"
_WANTED = 2
_PATIENCE_S = 240.0
_WATCH_S = 10.0
"""Of the state afterwards: a controller that wanted another number would have asked for it many times."""
_POLL_S = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_options: argparse.Namespace) -> int:
    """Print the verdicts; 1 if one does not hold."""
    introduce()
    with running_platform() as platform:
        return conclude(conduct(platform))


def conduct(platform: RunningPlatform) -> list[Finding]:
    """Deploy, scale, kill, look, delete."""
    made = deploy(platform, WORKLOADS["digits"](Path()), model_id=_MODEL)
    with ServeRest(platform) as rest, platform.client() as client:
        try:
            return _scaled(platform, rest, made["id"], made["application"])
        finally:
            persist(lambda: client.delete(f"/deployments/{made['id']}"), 200)


def _scaled(platform: RunningPlatform, rest: ServeRest, name: str, application: str) -> list[Finding]:
    def pids() -> set[int]:
        return running_pids(rest.of_models().get(application))

    def is_as_wanted() -> bool:
        return len(pids()) == _WANTED and _shown(platform, name) == {"desired": _WANTED, "ready": _WANTED}

    answer = rest.scale(application, _WANTED)
    is_scaled = _comes(is_as_wanted)
    findings = [
        Finding(f"Serve answers {answer.status_code}: {answer.text[:300]}", answer.status_code == 200),
        _found(f"scaled to {_WANTED}", is_scaled, platform, name, pids()),
    ]
    if not is_scaled:
        return findings
    before = pids()
    killed = platform.kill(CONTROLLER)
    is_back = _comes(lambda: is_controller_back(platform, killed))
    is_kept, watched_until = True, time.monotonic() + _WATCH_S
    while is_kept and time.monotonic() < watched_until:
        is_kept = is_as_wanted() and pids() == before
        time.sleep(_POLL_S)
    return [
        *findings,
        Finding("our controller, killed, is back", is_back),
        _found("the same replicas all the while after the kill", is_kept, platform, name, pids()),
    ]


def _found(what: str, is_met: bool, platform: RunningPlatform, name: str, pids: set[int]) -> Finding:
    return Finding(
        f"{what}: Serve runs {len(pids)} replicas, GET /deployments/{{id}} says {_shown(platform, name)}",
        is_met,
    )


def _shown(platform: RunningPlatform, name: str) -> dict[str, Any]:
    with platform.client() as client:
        found: dict[str, Any] = persist(lambda: client.get(f"/deployments/{name}"), 200).json()["replicas"]
    return found


def _comes(check: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(_POLL_S)
    return False
