"""What a replica does with the arrays of a call: run, and write each row's result as JSON.

Results leave the replica as JSON because the ingress is where requests of all deployments meet: encoding there would
cost the one process that must keep up with everybody (decisions/0005).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from fyretoolkit.models.runner import ModelRunner, Ran
from fyretoolkit.serving.replica import ReplicaAnswer


def answer(runner: ModelRunner, arrays: Mapping[str, np.ndarray]) -> ReplicaAnswer:
    """The results of all rows that the model can run, and why it cannot run the others.

    Raises:
        PlatformError: `signature_mismatch`, the model's outputs are not what its spec says.
    """
    return encode(runner, *run(runner, arrays))


def run(runner: ModelRunner, arrays: Mapping[str, np.ndarray]) -> tuple[Ran, float]:
    """What the model made of the rows, and the milliseconds that took."""
    began = time.perf_counter()
    ran = runner.run_isolating(arrays)
    return ran, (time.perf_counter() - began) * 1000


def encode(runner: ModelRunner, ran: Ran, compute_ms: float) -> ReplicaAnswer:
    """Each row's result as JSON.

    Raises:
        PlatformError: as `answer`.
    """
    results = [result for outputs in ran.outputs for result in runner.codec.render(outputs)]
    kept = ran.kept if ran.failed else range(len(results))  # a range is the smaller thing to send
    return ReplicaAnswer(results, kept, ran.failed, compute_ms)
