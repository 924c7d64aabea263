"""`kill -9` of a part of a running platform, and when it is there again.

A replica is there again when Serve says that as many run as before and each of their processes lives; our controller
when `/readyz` has heard of another process's; Serve's when it answers an operator. A process alone proves nothing: it
exists seconds before it serves.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from tests.support.platform import RunningPlatform, until
from tests.support.serve_rest import ServeRest, running_pids

INGRESS_APPLICATION = "ingress"
CONTROLLER = "ray::ControllerActor"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Victim:
    """A kind of process that is killed, and how long it may be away."""

    kind: str
    title: str
    """Part of the titles of such processes."""
    is_back: Callable[[int], bool]
    """Whether all of them are there again, asked with the pid that was killed."""
    within_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill. Times are of the monotonic clock."""

    victim: Victim
    at: float
    stage: str
    """Of the deployment that was on its way; empty if none was."""
    back_after_s: float


def victims_of(platform: RunningPlatform, rest: ServeRest, loaded: str) -> Sequence[Victim]:
    """What is killed in turn; `loaded` is the application that takes the load."""

    def replicas(kind: str, application: str) -> Victim:
        title = f"ray::ServeReplica:{application}:"
        wanted = len(platform.titled(title))

        def are_back(killed: int) -> bool:
            running = running_pids((rest.applications() or {}).get(application)) - {killed}
            living = {process.pid for process in platform.titled(title)}
            return len(running) == wanted and running <= living

        return Victim(kind, title, are_back, within_s=10.0)

    return (
        Victim("our controller", CONTROLLER, lambda killed: is_controller_back(platform, killed), 15.0),
        Victim(
            "Serve's controller",
            "ray::ServeController",
            lambda killed: bool(_others(platform, "ray::ServeController", killed) and rest.applications()),
            within_s=15.0,
        ),
        replicas("a model replica", loaded),
        replicas("an ingress replica", INGRESS_APPLICATION),
    )


def is_controller_back(platform: RunningPlatform, killed: int) -> bool:
    """Whether the platform is ready with another controller than the process `killed`."""
    if not _others(platform, CONTROLLER, killed):
        return False
    try:
        with platform.client() as client:
            return client.get("/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _others(platform: RunningPlatform, title: str, killed: int) -> set[int]:
    return {process.pid for process in platform.titled(title)} - {killed}


def kill(platform: RunningPlatform, victim: Victim) -> int:
    """`kill -9` the one of its kind that has lived longest; its pid."""
    living = until(lambda: platform.titled(victim.title), timeout_s=120, what=f"a process of {victim.kind}")
    oldest = min(living, key=lambda process: process.create_time())
    os.kill(oldest.pid, signal.SIGKILL)
    return oldest.pid


def time_until_back(victim: Victim, killed: int, *, patience_s: float) -> float:
    """Seconds from now; infinite if it is not back within its patience."""
    began = time.monotonic()
    while time.monotonic() - began < patience_s:
        if victim.is_back(killed):
            return time.monotonic() - began
        time.sleep(_POLL_S)
    return math.inf
