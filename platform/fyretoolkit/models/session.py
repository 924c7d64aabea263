"""ONNX Runtime enters here and nowhere else: opening a graph, reading its signature, running it.

Its wheels have telemetry on, and the environment variable must be there before the import (the API call comes too
late for the first event), hence the order of the first lines. Providers are always named: `onnxruntime-gpu` would
otherwise take a GPU that the replica does not hold, or fall back to the CPU without a word. Threads do not spin:
several replicas share a machine, and a spinning thread takes its neighbours' time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.signature import STRING, Signature, TensorSpec

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
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")
_LOG_ERRORS = 3


class Session:
    """A loaded graph. Thread-safe, as ONNX Runtime's own sessions are."""

    def __init__(self, inner: onnxruntime.InferenceSession, bound_to: tuple[str, int] | None = None) -> None:
        """`bound_to`: ONNX Runtime's device, and its number, to which inputs are brought before a run."""
        self._inner = inner
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

        Raises:
            PlatformError: `row_failed`, with the runtime's own words; some row of the batch is the cause.
        """
        try:
            values = self._values(arrays)
        except Exception as error:
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


def open_session(path: Path, *, num_gpus: float = 0.0, device_id: int = 0, threads: int = 1) -> Session:
    """Loads the graph at `path` on the GPU that this process holds if `num_gpus` > 0, else on the CPU.

    `device_id` counts the GPUs that this process can see; `threads` are those of one inference.

    Raises:
        PlatformError: `invalid_onnx`, `unsupported_operator`, `signature_mismatch` or `gpu_unavailable`.
    """
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if num_gpus > 0:
        _require_cuda()
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device_id}))
    try:
        inner = onnxruntime.InferenceSession(str(path), _options(threads), providers=providers)
    except Exception as error:
        raise _translate(error) from error
    if num_gpus > 0 and "CUDAExecutionProvider" not in inner.get_providers():
        raise PlatformError(
            "gpu_unavailable",
            "The replica holds a GPU that ONNX Runtime cannot use. "
            "Install fyretoolkit[platform,cuda] on the GPU nodes, or deploy with num_gpus 0.",
        )
    return Session(inner, ("cuda", device_id) if num_gpus > 0 else None)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _require_cuda() -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise PlatformError(
            "gpu_unavailable",
            "This platform's ONNX Runtime has no CUDA. Deploy with num_gpus 0, or add a GPU node.",
        )
    onnxruntime.preload_dlls()


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
