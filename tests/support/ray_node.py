"""`ray start --address=…` for a further node on a machine whose Ray stays on loopback.

The switch that keeps it there (`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`) is Ray's for laptops, which have one node: its
command line refuses a second one. Nothing else in Ray minds.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, cast

from fyretoolkit.launch import ray_cli


class _MayJoin:
    """Ray's constants as its command line reads them, less the refusal."""

    ENABLE_RAY_CLUSTER = True

    def __init__(self, constants: ModuleType) -> None:
        self._constants = constants

    def __getattr__(self, name: str) -> Any:
        return getattr(self._constants, name)


def main() -> None:
    """Run Ray's console script with this process's arguments."""
    sys.modules.update(dict.fromkeys(ray_cli._ABSENT, cast(ModuleType, None)))
    from ray.scripts import scripts

    scripts.ray_constants = _MayJoin(scripts.ray_constants)
    ray_cli.main()


if __name__ == "__main__":
    main()
