"""A graph of the size of a small sentence encoder (MiniLM: 6 layers, 384 wide) with random weights, always the same.

What it answers means nothing; what it costs is what a transformer of this size costs: about 2.8 GFLOP a row of 128
tokens. A real one would have to be downloaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, WIDTH, HEADS, TOKENS = 6, 384, 12, 128
_WORDS, _INNER, _CLASSES = 1000, 4 * WIDTH, 2
_SEED = 20260702
_OPSET, _IR_VERSION = 20, 9


class _Graph:
    """Nodes and weights as they are added; each method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(_SEED)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def weight(self, *shape: int, scale: float) -> str:
        return self.constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def linear(self, x: str, width_in: int, width_out: int) -> str:
        product = self.add("MatMul", x, self.weight(width_in, width_out, scale=width_in**-0.5))
        return self.add("Add", product, self.weight(width_out, scale=0.02))

    def norm(self, x: str) -> str:
        ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        return self.add("LayerNormalization", x, self.constant(ones), self.constant(zeros), axis=-1)

    def heads(self, x: str, *order: int) -> str:
        """(N, T, width) as (N, heads, …), the axes within a head in this order."""
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, *order])

    def layer(self, x: str) -> str:
        query, key, value = (
            self.heads(self.linear(x, WIDTH, WIDTH), *order) for order in ((2, 1, 3), (2, 3, 1), (2, 1, 3))
        )
        scale = self.constant(np.array((WIDTH / HEADS) ** -0.5, np.float32))
        scores = self.add("Mul", self.add("MatMul", query, key), scale)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        flat = self.constant(np.array([0, 0, WIDTH]))
        joined = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
        x = self.norm(self.add("Add", x, self.linear(joined, WIDTH, WIDTH)))
        inner = self.add("Gelu", self.linear(x, WIDTH, _INNER))
        return self.norm(self.add("Add", x, self.linear(inner, _INNER, WIDTH)))


def transformer() -> bytes:
    """`input_ids` int64[N, 128] → `label` int64[N], `probabilities` float32[N, 2]."""
    graph = _Graph()
    words = graph.add("Gather", graph.weight(_WORDS, WIDTH, scale=1.0), "input_ids")
    x = graph.norm(graph.add("Add", words, graph.weight(TOKENS, WIDTH, scale=0.5)))
    for _ in range(LAYERS):
        x = graph.layer(x)
    pooled = graph.add("ReduceMean", x, graph.constant(np.array([1])), keepdims=0)
    probabilities = graph.add("Softmax", graph.linear(pooled, WIDTH, _CLASSES), axis=-1)
    label = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    graph.nodes += [
        helper.make_node("Identity", [label], ["label"]),
        helper.make_node("Identity", [probabilities], ["probabilities"]),
    ]
    whole = helper.make_graph(
        graph.nodes,
        "transformer",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["N", TOKENS])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", _CLASSES]),
        ],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    content: bytes = helper.make_model(
        whole, opset_imports=opsets, ir_version=_IR_VERSION
    ).SerializeToString()
    return content


def token_rows(count: int) -> list[list[int]]:
    """So many rows of input, always the same."""
    rows: list[list[int]] = np.random.default_rng(_SEED).integers(0, _WORDS, (count, TOKENS)).tolist()
    return rows
