"""The textbook way to the same replica: `serve.run` of a class that loads the model in its constructor.

`python -m scripts.benchmarks.deploys.bare_serve` is a driver beside a running platform, on its Ray, with applications
of its own. It reads a JSON object a line: `{"name", "graph"}` deploys and answers `{"seconds"}` from call to return,
`{"name"}` alone deletes and answers `{}`. What it knows of Ray and Serve it has from its environment.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

_QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")


class BareModel:
    """A session in the constructor, and one inference to warm it up."""

    def __init__(self, graph: str) -> None:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        (given,) = self._session.get_inputs()
        self._name = given.name
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        self._session.run(None, {self._name: np.zeros(shape, np.float32)})

    async def predict(self, array: Any) -> Any:
        """The outputs."""
        return self._session.run(None, {self._name: array})


def deploy(name: str, graph: Path) -> float:
    """Seconds until `serve.run` returns; with the options that the platform gives its own (`control.serve_driver`)."""
    deployment = serve.deployment(BareModel).options(
        name="BareModel",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1, "num_gpus": 0},
        max_ongoing_requests=64,
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=1,
        logging_config=_QUIET,
    )
    began = time.monotonic()
    serve.run(deployment.bind(str(graph)), name=name, route_prefix=None, logging_config=_QUIET)
    return time.monotonic() - began


def main() -> None:
    """Do as stdin says, until it ends."""
    ray.init(address="auto", namespace="bare", log_to_driver=False)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "graph" in order:
            answer: dict[str, float] = {"seconds": deploy(order["name"], Path(order["graph"]))}
        else:
            serve.delete(order["name"])
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
