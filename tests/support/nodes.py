"""Further nodes of a running platform, on this machine: each a `ray start` that joins, in a process group of its own.

The platform itself is started as ever, so that Redis, controller, ingress and proxy are the real ones. The rejected
alternative, `ray.cluster_utils.Cluster`, starts a head of its own, without the platform's ports, token and supervisor:
all of it would have to be rebuilt around that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import RunState, read_state
from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import RunningPlatform, until

BOOTSTRAP = {"FYRE_BOOTSTRAP_MODULE": "tests.support.head_only_bootstrap"}
"""For the environment of the platform: several nodes on one machine share one proxy's ports."""
_START_S = 240
_STORE_BYTES = 128 << 20


def state_of(platform: RunningPlatform) -> RunState:
    """What its supervisor has written of it."""
    state = read_state(Home(platform.home))
    assert state is not None
    return state


@dataclass(frozen=True)
class Node:
    """One that has joined."""

    id: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """`kill -9` all of it at once, as when its machine loses power."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def alive_nodes(platform: RunningPlatform) -> dict[str, dict[str, str]]:
    """The labels of each node that Ray takes for alive, by its id."""
    found = _ask_ray(platform, "/api/v0/nodes")["data"]["result"]["result"]
    return {each["node_id"]: each["labels"] for each in found if each["state"] == "ALIVE"}


def nodes_of_replicas(platform: RunningPlatform, application: str) -> list[str]:
    """The ids of the nodes on which an application's replicas run, as Serve says."""
    details = _ask_ray(platform, "/api/serve/applications/")["applications"][application]["deployments"]
    return [replica["node_id"] for replica in details["ModelServer"]["replicas"]]


@contextmanager
def joined(platform: RunningPlatform, labels: str, *, num_cpus: int = 1) -> Iterator[Node]:
    """A node with these labels, until the end of the block if nobody kills it before."""
    known = alive_nodes(platform)
    log = platform.home / "run" / f"node-{len(known)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _arguments(platform, labels, num_cpus),
            cwd=PROJECT_ROOT,
            env=platform.titled("ray_cli start --head")[0].environ(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    node = None
    try:

        def new() -> str | None:
            assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            return next(iter(alive_nodes(platform).keys() - known.keys()), None)

        node = Node(until(new, timeout_s=_START_S, what=f"a node with {labels}"), process)
        yield node
    finally:
        (node or Node("", process)).kill()


def _arguments(platform: RunningPlatform, labels: str, num_cpus: int) -> list[str]:
    options: dict[str, object] = {
        "address": state_of(platform).ray_address,
        "node-ip-address": "127.0.0.1",
        "labels": labels,
        "num-cpus": num_cpus,
        "object-store-memory": _STORE_BYTES,
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    start = [sys.executable, "-m", "tests.support.ray_node", "start", "--block", "--disable-usage-stats"]
    return [*start, *(f"--{name}={value}" for name, value in options.items())]


def _ask_ray(platform: RunningPlatform, path: str) -> dict[str, Any]:
    token = Path(Home(platform.home).token_file).read_text("utf-8")
    answer = httpx.get(
        state_of(platform).dashboard_url + path,
        headers={"Authorization": f"Bearer {token}"},
        timeout=120,
        trust_env=False,
    )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
