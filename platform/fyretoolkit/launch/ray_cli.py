"""Ray's command line without the parts unused here: `python -m fyretoolkit.launch.ray_cli start …`.

`ray` imports Serve's own command line, and that imports pandas and FastAPI: 3.2 of the 5.7 s that `ray start`
takes to begin (2 cores). Ray treats it as optional, so it is made to look absent. A process of its own,
because imports cannot be taken back.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

_ABSENT = ("ray.serve.scripts", "ray.util.state.state_cli", "ray.dashboard.modules.job.cli")


def prepare_node(parameters: Any, _is_head: bool) -> None:
    """Ray's start hook (`RAY_START_HOOK`), before a node starts.

    No Ray Client server, which takes a port and 130 MB unused. Workers with a runtime environment start by our
    `setup_worker.py`. It must have the name of Ray's: by that the raylet knows what to leave out for the others.
    """
    parameters.ray_client_server_port = None
    parameters.setup_worker_path = str(Path(__file__).with_name("setup_worker.py"))


def main() -> None:
    """Run Ray's console script with this process's arguments."""
    sys.modules.update(
        dict.fromkeys(_ABSENT, cast(ModuleType, None))
    )  # None: Python's mark for "not importable"
    (script,) = entry_points(group="console_scripts", name="ray")
    script.load()()


if __name__ == "__main__":
    main()
