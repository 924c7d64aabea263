"""Runs a module as the main program on command, having imported what it will need while others were still starting.

The bootstrap spends seconds importing Ray and Serve; started beside `ray start`, which mostly waits, it does
that for nothing. It goes on at the first line on stdin and gives up at the end of it: then its supervisor is
gone.
"""

from __future__ import annotations

import importlib
import runpy
import sys

_PRELOADED = ("ray", "ray.serve", "fastapi", "redis")


def main(module: str) -> int:
    """Import, wait for a line on stdin, run `module`; 1 if the line never came."""
    for name in _PRELOADED:
        importlib.import_module(name)
    if not sys.stdin.readline():
        return 1
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
