"""Ray's command line without the parts unused here: `python -m fyretoolkit.launch.ray_cli start …`.

`ray` imports Serve's own command line, and that imports pandas and FastAPI: 3.2 of the 5.7 s that `ray start`
takes to begin (2 cores). Ray treats it as optional, so it is made to look absent. A process of its own,
because imports cannot be taken back. And what `--block` watches is changed: `watch_subprocesses`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

_ABSENT = ("ray.serve.scripts", "ray.util.state.state_cli", "ray.dashboard.modules.job.cli")
_REVIVABLE: dict[str, Callable[[Any], None]] = {
    "dashboard": lambda node: node.start_api_server(
        include_dashboard=node._ray_params.include_dashboard, raise_on_failure=False
    ),
    "log_monitor": lambda node: node.start_log_monitor(),
}
"""What nothing needs that serves, by Ray's name, and how it is started."""
_REVIVAL_PAUSE_S = 10.0


def prepare_node(parameters: Any, _is_head: bool) -> None:
    """Ray's start hook (`RAY_START_HOOK`), before a node starts.

    No Ray Client server, which takes a port and 130 MB unused. Workers with a runtime environment start by our
    `setup_worker.py`. It must have the name of Ray's: by that the raylet knows what to leave out for the others.
    """
    parameters.ray_client_server_port = None
    parameters.setup_worker_path = str(Path(__file__).with_name("setup_worker.py"))


def watch_subprocesses(node_class: Any) -> None:
    """Let `ray start --block` notice each subprocess that ends.

    Ray takes exit codes of 0 and SIGTERM for `ray stop`'s doing and blocks on. But with 0 a raylet ends itself when one
    of its agents died, and then nothing of the node is left. Here the command ends with 1, so that its supervisor
    starts it again. And Ray gives up the node for its dashboard: that one is started again in its place. Figures:
    `platform/decisions/0017-what-keeps-ray-running.md`.
    """
    dead_processes = node_class.dead_processes
    begun: dict[str, float] = {}
    wanted: set[str] = set()

    def watch(node: Any) -> list[tuple[str, Any]]:
        dead = dead_processes(node)
        vital = [f"{kind} ({process.returncode})" for kind, process in dead if kind not in _REVIVABLE]
        if vital:
            print("Ended, with exit codes:", *vital, flush=True)
            node.kill_all_processes(check_alive=False, allow_graceful=False)
            os._exit(1)
        wanted.update(kind for kind, _ in dead)
        for kind in sorted(wanted):
            if time.monotonic() - begun.get(kind, -_REVIVAL_PAUSE_S) >= _REVIVAL_PAUSE_S:
                begun[kind] = time.monotonic()
                _revive(node, kind)
        wanted.difference_update(node.all_processes)
        return []

    node_class.dead_processes = watch


def _revive(node: Any, kind: str) -> None:
    """Start it, unless that fails: then it is not among the node's processes."""
    print(f"Ray's {kind} has ended: starting it again.", flush=True)
    node.all_processes.pop(kind, None)
    try:
        _REVIVABLE[kind](node)
    except OSError as error:
        print(f"It cannot be started: {error}.", flush=True)


def main() -> None:
    """Run Ray's console script with this process's arguments."""
    sys.modules.update(
        dict.fromkeys(_ABSENT, cast(ModuleType, None))
    )  # None: Python's mark for "not importable"
    (script,) = entry_points(group="console_scripts", name="ray")
    run = script.load()
    watch_subprocesses(sys.modules["ray._private.node"].Node)  # Ray's script has imported it
    run()


if __name__ == "__main__":
    main()
