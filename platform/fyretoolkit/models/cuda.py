"""The GPU that a process holds: its number, its memory, and what ONNX Runtime's CUDA provider is told about both.

Ray only counts shares of a GPU: two processes with half of one each see all of its memory. So a process that holds a
share keeps its arena within that, or the first to grow would starve its neighbours, whose owners did nothing.

The memory is asked of the driver (`libcuda`), which is there wherever CUDA works, counts devices as the provider does
(CUDA_VISIBLE_DEVICES and MIG included) and makes no context for the question. NVML counts all devices of the machine
instead, whoever may see them, and cudart's `cudaMemGetInfo` makes a context of some hundred megabytes.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

PROVIDER = "CUDAExecutionProvider"
_OUTSIDE_BYTES = 512 << 20
"""What a process takes of a device beside the arena: CUDA's context, the code of cuBLAS and cuDNN, their workspaces."""
_DRIVER = "libcuda.so.1"
_FAILURE = re.compile(r"CUDA failure (\d+)")
_FATAL = frozenset({214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719})
"""Of these CUDA says that the process must end before anything on the device works again: bad memory, a lost device, a
kernel that ran into an address, a time limit or an assertion. Source: CUDA Runtime API, `cudaError`."""


def device_number(held: Sequence[str], visible: str | None) -> int:
    """The number that CUDA gives the first of the GPUs `held` in a process that sees those in `visible`.

    Ray shows a process its own GPUs alone, so it is 0, unless RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is set.
    """
    if not held:
        return 0
    seen = visible.split(",") if visible else []
    if held[0] in seen:
        return seen.index(held[0])
    return 0 if seen else int(held[0])


def provider_options(device_id: int, limit_bytes: int | None) -> dict[str, str]:
    """How a session runs on a device; `limit_bytes`: of its arena, None: any.

    Source: ONNX Runtime, "CUDA Execution Provider", and its issues as named.
    """
    options = {
        "device_id": str(device_id),
        # The default doubles what it takes at each step: of a share, half would be gone for nothing.
        "arena_extend_strategy": "kSameAsRequested",
        # The default, EXHAUSTIVE, runs every algorithm of every convolution at each new shape: with batches as large
        # as the traffic makes them that is a pause at each new size, and the trials' workspaces come from the device
        # whatever the limit says (onnxruntime#7612, #19838).
        "cudnn_conv_algo_search": "HEURISTIC",
        # On by default, it cuts float32 factors to 10 bits of mantissa: other answers than the CPU gives, and differing
        # ones from batch to batch where one size runs on tensor cores and another does not. Who wants that speed
        # exports float16.
        "use_tf32": "0",
    }
    return options if limit_bytes is None else {**options, "gpu_mem_limit": str(limit_bytes)}


def arena_limit(total_bytes: int, num_gpus: float) -> int | None:
    """How much of a device the arena of a process that holds `num_gpus` may take; None: who holds it whole, all.

    The limit is of the arena alone, so what the process takes beside it comes off the share, though never over half.
    """
    if num_gpus >= 1:
        return None
    share = int(total_bytes * num_gpus)
    return max(share - _OUTSIDE_BYTES, share // 2)


def total_bytes(device_id: int, load: Any = ctypes.CDLL) -> int | None:
    """The memory of a device, by the number that CUDA gives it in this process; None where the driver does not say."""
    try:
        driver = load(_DRIVER)
    except OSError:
        return None
    device, size = ctypes.c_int(), ctypes.c_size_t()
    is_known = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), device_id) == 0
        and driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) == 0
    )
    return size.value if is_known else None


def is_fatal(message: str) -> bool:
    """Whether ONNX Runtime reports a failure after which nothing in this process runs on the device any more."""
    return any(int(code) in _FATAL for code in _FAILURE.findall(message))
