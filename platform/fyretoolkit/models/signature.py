"""The signature of a model: the names, element types and shapes of its inputs and outputs.

A signature is what the graph says; how callers' JSON maps onto it is the spec's business (spec.py). It is plain data,
so that a process without ONNX Runtime (an API route, the planner of a batch job) can hold one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STRING = "string"
FLOATS = frozenset({"float16", "float32", "float64"})
INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
DTYPES = FLOATS | INTEGERS | {"bool", STRING}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    `dtype` is a numpy name or "string". `shape` counts the batch axis (the first one); None is a length that the graph
    leaves open. A shape of () means that the graph does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of one row: without the batch axis."""
        return self.shape[1:]

    @property
    def is_scalar_row(self) -> bool:
        """Whether a row is one value: shape (N,) or (N, 1)."""
        return self.row_shape in ((), (1,))

    def to_json(self) -> dict[str, object]:
        """JSON-ready form; an open length is null."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        """The inverse of `to_json`."""
        return cls(str(value["name"]), str(value["dtype"]), tuple(value["shape"]))


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, as `GET /models/{id}` shows it."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[Mapping[str, Any]]]) -> Signature:
        """The inverse of `to_json`."""
        return cls(
            tuple(TensorSpec.from_json(spec) for spec in value["inputs"]),
            tuple(TensorSpec.from_json(spec) for spec in value["outputs"]),
        )
