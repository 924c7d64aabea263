"""Which GPUs the replicas of a running platform were given, as they logged it."""

from __future__ import annotations

import re
from pathlib import Path

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from tests.support.platform import RunningPlatform

_RUNS_ON = re.compile(r"(dep_\w+) runs on (.*); num_gpus (\S+), CUDA_VISIBLE_DEVICES (.*)")


def placements(platform: RunningPlatform, deployment: str) -> list[tuple[str, str]]:
    """(where it runs, the GPUs that it sees), of each replica that loaded the deployment's model."""
    state = read_state(Home(platform.home))
    assert state is not None
    logs = Path(state.runtime_dir, "ray", "session_latest", "logs").glob("worker-*.err")
    found = [line for log in sorted(logs) for line in _RUNS_ON.findall(log.read_text("utf-8", "replace"))]
    return [(where, visible) for name, where, _, visible in found if name == deployment]
