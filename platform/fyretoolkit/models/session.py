"""ONNX Runtime enters here and nowhere else: opening a graph, reading its signature, running it.

Its wheels have telemetry on, and the environment variable must be there before the import (the API call comes too
late for the first event), hence the order of the first lines. Providers are always named: `onnxruntime-gpu` would
otherwise take a GPU that the replica does not hold. Threads do not spin: several replicas share a machine, and a
spinning thread takes its neighbours' time.

Who asked for a GPU never gets a CPU in its place. ONNX Runtime gives one in four ways, each closed here: its Python
part opens a session again without the provider that failed, and runs it again so after a failure of the device
(`enable_fallback`); a provider whose libraries do not load is left out with a line in the log; and a graph none of
whose operators the provider knows runs on the CPU as a whole.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import cuda, provider_double
from fyretoolkit.models.signature import STRING, Signature, TensorSpec

logger = logging.getLogger(__name__)

_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
_CLASS_MAPS = frozenset({"seq(map(string,tensor(float)))", "seq(map(int64,tensor(float)))"})
"""What the ZipMap operator gives, skl2onnx's default: one {class: probability} a row. Read as float32[N, classes]."""
_UNSUPPORTED = (
    "is not a registered function/op",
    "No Op registered",
    "NOT_IMPLEMENTED",
    "is under development",
)
_OUT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",
    "Available memory of",  # of an arena with a limit
    "out of memory",
)
_DEVICE_MARKS = ("CUDA", "CUBLAS", "CUDNN")
_LOG_ERRORS = 3
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a session runs."""

    provider: str = _CPU
    device_id: int | None = None
    """The number that CUDA gives the device in this process."""
    limit_bytes: int | None = None
    """Of the arena on the device; None: no limit."""
    nodes: Mapping[str, int] | None = None
    """How many operators of the graph run on each provider, where that was asked."""

    def __str__(self) -> str:
        if self.device_id is None:
            return self.provider
        limit = "" if self.limit_bytes is None else f", at most {self.limit_bytes / (1 << 30):.2f} GiB"
        nodes = ", ".join(f"{count} on {name}" for name, count in (self.nodes or {}).items())
        return f"{self.provider}, device {self.device_id}{limit}; operators: {nodes or 'none'}"


class Session:
    """A loaded graph. Thread-safe, as ONNX Runtime's own sessions are."""

    def __init__(
        self,
        inner: onnxruntime.InferenceSession,
        bound_to: tuple[str, int] | None = None,
        placement: Placement | None = None,
    ) -> None:
        """`bound_to`: ONNX Runtime's device, and its number, to which inputs are brought before a run."""
        self._inner = inner
        self.placement = placement or Placement()
        self.signature = Signature(
            tuple(_spec(node, is_output=False) for node in inner.get_inputs()),
            tuple(_spec(node, is_output=True) for node in inner.get_outputs()),
        )
        self._output_names = [spec.name for spec in self.signature.outputs]
        self.class_names: dict[str, list[str | int]] = {}
        """The classes of each ZipMap output, in the order of its columns; known after the first run."""
        has_texts = any(spec.dtype == STRING for spec in (*self.signature.inputs, *self.signature.outputs))
        self._bound_to = None if has_texts else bound_to  # texts live in the CPU's memory alone

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference over at least one row: outputs by name.

        Ends the process if it has lost its GPU: nothing but another process could run the model, and who waits for an
        answer asks that one.

        Raises:
            PlatformError: `row_failed`, with the runtime's own words; some row of the batch is the cause.
        """
        try:
            values = self._values(arrays)
        except Exception as error:
            if self.placement.device_id is not None and cuda.is_fatal(str(error)):
                logger.critical("The GPU is lost to this process, which ends: %s", error)
                os._exit(1)
            raise PlatformError(
                "row_failed", f"The model failed on this row: {_first_line(error)}"
            ) from error
        return {
            name: self._array(name, value) for name, value in zip(self._output_names, values, strict=True)
        }

    def _values(self, arrays: Mapping[str, np.ndarray]) -> Sequence[object]:
        if self._bound_to is None:
            plain: Sequence[object] = self._inner.run(self._output_names, dict(arrays))
            return plain
        binding = self._inner.io_binding()
        for name, array in arrays.items():
            there = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), *self._bound_to)
            binding.bind_ortvalue_input(name, there)
        for name in self._output_names:
            # Callers read every output on the CPU; the run itself brings it there, whatever its shape turns out to be.
            binding.bind_output(name, "cpu")
        self._inner.run_with_iobinding(binding)
        bound: Sequence[object] = binding.copy_outputs_to_cpu()
        return bound

    def _array(self, name: str, value: object) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, list) and value and isinstance(value[0], dict):
            self.class_names[name] = list(value[0])
            return np.array([list(row.values()) for row in value], dtype=np.float32)
        return np.asarray(value)


class Cuda:
    """CUDA as ONNX Runtime has it."""

    memory = "cuda"
    """What ONNX Runtime calls the device of an array."""

    def is_built_in(self) -> bool:
        """Whether this build knows CUDA; then its libraries are loaded, as far as they are there."""
        if cuda.PROVIDER not in onnxruntime.get_available_providers():
            return False
        onnxruntime.preload_dlls()
        return True

    def total_bytes(self, device_id: int) -> int | None:
        """The memory of a device; None where the driver does not say."""
        return cuda.total_bytes(device_id)

    def open(self, path: Path, options: Any, providers: Sequence[Any]) -> onnxruntime.InferenceSession:
        """A session with these providers, or what ONNX Runtime raises; never one with others."""
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)


def open_session(path: Path, *, num_gpus: float = 0.0, device_id: int = 0, threads: int = 1) -> Session:
    """Loads the graph at `path` on the GPU that this process holds if `num_gpus` > 0, else on the CPU.

    `device_id` counts the GPUs that this process can see; `threads` are those of one inference.

    Raises:
        PlatformError: `invalid_onnx`, `unsupported_operator`, `signature_mismatch` or `gpu_unavailable`.
    """
    options = _options(threads)
    if num_gpus > 0:
        return _open_on_gpu(path, options, num_gpus, device_id)
    try:
        inner = onnxruntime.InferenceSession(str(path), options, providers=[_CPU])
    except Exception as error:
        raise _translate(error) from error
    return Session(inner)


def _open_on_gpu(path: Path, options: onnxruntime.SessionOptions, num_gpus: float, device_id: int) -> Session:
    runtime = provider_double.CudaDouble() if provider_double.is_on(os.environ) else Cuda()
    if not runtime.is_built_in():
        raise PlatformError(
            "gpu_unavailable",
            "This platform's ONNX Runtime has no CUDA. Deploy with num_gpus 0, or add a GPU node.",
        )
    total = runtime.total_bytes(device_id)
    limit = None if total is None else cuda.arena_limit(total, num_gpus)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        inner = runtime.open(path, options, [(cuda.PROVIDER, cuda.provider_options(device_id, limit)), _CPU])
    except Exception as error:
        raise _translate_on_gpu(error, num_gpus) from error
    placement = Placement(cuda.PROVIDER, device_id, limit, _nodes_by_provider(inner))
    _check_placement(inner, placement)
    return Session(inner, (runtime.memory, device_id), placement)


def _nodes_by_provider(inner: onnxruntime.InferenceSession) -> Counter[str]:
    nodes: Counter[str] = Counter()
    for part in inner.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    return nodes


def _check_placement(inner: onnxruntime.InferenceSession, placement: Placement) -> None:
    """Refuses a session that left the GPU out.

    Raises:
        PlatformError: `gpu_unavailable`.
    """
    if cuda.PROVIDER not in inner.get_providers():
        raise PlatformError(
            "gpu_unavailable",
            "The replica holds a GPU that ONNX Runtime cannot use. "
            "Install fyretoolkit[platform,cuda] on the GPU nodes, or deploy with num_gpus 0.",
        )
    if placement.nodes and cuda.PROVIDER not in placement.nodes:
        raise PlatformError(
            "gpu_unavailable", "CUDA knows none of the model's operators. Deploy it with num_gpus 0."
        )


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _translate_on_gpu(error: Exception, num_gpus: float) -> PlatformError:
    """What keeps a model from a GPU: the model, as on a CPU, its share of the memory, or the GPU."""
    text = str(error)
    if any(mark in text for mark in _OUT_OF_MEMORY):
        return PlatformError(
            "artifact_too_large",
            f"The model needs more memory to load than {num_gpus:g} GPUs leave it. "
            "Deploy it with more num_gpus, or use a smaller one.",
        )
    is_known = any(mark in text for mark in _UNSUPPORTED)
    if not is_known and any(mark in text for mark in _DEVICE_MARKS):
        return PlatformError(
            "gpu_unavailable",
            f"ONNX Runtime cannot use the GPU: {_first_line(error)} "
            "Check the GPU nodes' driver and libraries, or deploy with num_gpus 0.",
        )
    return _translate(error)


def _translate(error: Exception) -> PlatformError:
    text = str(error)
    reason = _first_line(error)
    if any(mark in text for mark in _UNSUPPORTED):
        return PlatformError(
            "unsupported_operator", f"{reason} Export the model with standard ONNX operators."
        )
    if any(mark in text for mark in _OUT_OF_MEMORY):
        return PlatformError(
            "artifact_too_large", "The model needs more memory to load than there is. Use a smaller one."
        )
    return PlatformError("invalid_onnx", f"{reason} Export the model again and check it with onnx.checker.")


def _first_line(error: Exception) -> str:
    """The runtime's message without its code, the paths of its sources, and the path of the model."""
    text = str(error).removeprefix("Error in execution: ").strip()
    if text.startswith("[ONNXRuntimeError]"):  # … : number : NAME : message
        text = text.split(" : ", 3)[-1].strip()
    line = text.splitlines()[0] if text else type(error).__name__
    if "failed:" in line and line.startswith("Load model from"):
        line = line.split("failed:", 1)[1]
    line = " ".join(word for word in line.split() if "/onnxruntime" not in word)
    return line[:300].rstrip(".") + "."


def _spec(node: onnxruntime.NodeArg, *, is_output: bool) -> TensorSpec:
    if is_output and node.type in _CLASS_MAPS:
        return TensorSpec(node.name, "float32", (None, None))
    if node.type not in _DTYPES:
        raise PlatformError(
            "signature_mismatch",
            f"{'Output' if is_output else 'Input'} {node.name!r} is a {node.type}; "
            "use tensors of numbers, booleans or strings.",
        )
    return TensorSpec(node.name, _DTYPES[node.type], tuple(_length(axis) for axis in node.shape))


def _length(axis: object) -> int | None:
    return axis if isinstance(axis, int) and axis >= 0 else None
