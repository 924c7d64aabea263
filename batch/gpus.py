"""GPUs of batch jobs: whether the cluster could ever place a worker of a GPU model, and which one a worker holds."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.cuda import device_number
from fyretoolkit.models.manifest import Resources


def require_gpus(wanted: Resources) -> None:
    """Return if some node has the GPUs that a worker wants, busy or not; Ray would wait for such a node without end.

    Raises:
        PlatformError: `gpu_unavailable`.
    """
    if not wanted.num_gpus:
        return
    most = max((_gpus_of(each, wanted.accelerator_type) for each in _resources_of_nodes()), default=0.0)
    if wanted.num_gpus > most:
        kind = f" of type {wanted.accelerator_type}" if wanted.accelerator_type else ""
        raise PlatformError(
            "gpu_unavailable",
            f"The model wants {wanted.num_gpus:g} GPUs{kind} and no node has more than {most:g}. "
            "Register the model with num_gpus 0, or add a GPU node, and create the job again.",
        )


def held_device(num_gpus: float) -> int:
    """The number that CUDA gives the GPU which this worker holds; 0 if it holds none."""
    if not num_gpus:
        return 0
    import ray

    held = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return device_number(held, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _gpus_of(resources: Mapping[str, float], kind: str | None) -> float:
    """A node has GPUs of one kind alone, which Ray makes a resource of it."""
    is_of_kind = kind is None or f"accelerator_type:{kind}" in resources
    return resources.get("GPU", 0.0) if is_of_kind else 0.0


def _resources_of_nodes() -> list[Mapping[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
