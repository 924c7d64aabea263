"""Whether the cluster could ever place a worker of a GPU model."""

from __future__ import annotations

from fyretoolkit.core.errors import PlatformError


def require_gpus(num_gpus: float) -> None:
    """Return if some node has `num_gpus` GPUs, busy or not; Ray would wait for such a node without end.

    Raises:
        PlatformError: `gpu_unavailable`.
    """
    if not num_gpus:
        return
    most = _most_gpus_of_a_node()
    if num_gpus > most:
        raise PlatformError(
            "gpu_unavailable",
            f"The model wants {num_gpus:g} GPUs and no node has more than {most:g}. "
            "Register the model with num_gpus 0, or add a GPU node, and create the job again.",
        )


def _most_gpus_of_a_node() -> float:
    import ray

    return max((node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
