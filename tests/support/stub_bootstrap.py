"""A bootstrap for the launcher's own tests: it starts nothing, it connects to Ray and says so."""

from __future__ import annotations

import json

import ray


def main() -> None:
    """Connect to the head that the environment names and report one stage."""
    print(json.dumps({"stage": "serve", "state": "start", "message": ""}), flush=True)
    ray.init(log_to_driver=False)
    nodes = len(ray.nodes())
    ray.shutdown()
    print(json.dumps({"stage": "serve", "state": "done", "message": f"{nodes} node"}), flush=True)


if __name__ == "__main__":
    main()
