"""ONNX graphs that a platform must refuse: each builder returns the bytes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import onnx
from onnx import TensorProto, helper

_DOMAIN = "local"
_OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1))


def _value(name: str, shape: Sequence[int | str] = ("N", 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    *,
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "g", [_value("x")], [_value("y")], list(constants), sparse_initializer=list(sparse)
    )
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=9, functions=list(functions))


def _bytes(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString()
    return content


def _external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def external_data(location: str) -> bytes:
    """Its one weight is said to lie at `location`."""
    return _bytes(_model([helper.make_node("Add", ["x", "w"], ["y"])], [_external(location)]))


def external_attribute() -> bytes:
    """The same inside a node, in a graph within the graph."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["w"], value=_external("/etc/passwd"))],
        "branch",
        [],
        [_value("w", [3])],
    )
    condition = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    return _bytes(_model(nodes, [condition]))


def _function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function(_DOMAIN, name, ["x"], ["y"], list(nodes), _OPSETS)


def _calls(name: str, count: int) -> list[onnx.NodeProto]:
    """So many in a row, each on what the one before gave."""
    names = ["x", *(f"t{number}" for number in range(count - 1)), "y"]
    return [helper.make_node(name, [a], [b], domain=_DOMAIN) for a, b in pairwise(names)]


def function_bomb(levels: int = 9, calls: int = 10) -> bytes:
    """10^9 nodes when it is written out, 2 kB as it is."""
    leaf = _function("f0", [helper.make_node("Identity", ["x"], ["y"])])
    functions = [leaf, *(_function(f"f{n}", _calls(f"f{n - 1}", calls)) for n in range(1, levels + 1))]
    return _bytes(_model(_calls(f"f{levels}", 1), functions=functions))


def recursion(length: int) -> bytes:
    """Functions that call each other in a circle of this length."""
    functions = [_function(f"f{n}", _calls(f"f{(n + 1) % length}", 1)) for n in range(length)]
    return _bytes(_model(_calls("f0", 1), functions=functions))


def nested(depth: int) -> bytes:
    """`If` within `If`, so many graphs deep; deeper than protobuf's own libraries read or write."""
    flat = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "flat", [], [_value("y")])
    node = helper.make_node("If", ["yes"], ["y"], else_branch=flat).SerializeToString()
    empty = helper.make_graph([], "branch", [], [_value("y")]).SerializeToString()
    inner = node
    for _ in range(depth - 2):
        branch = (
            _field(1, b"then_branch")
            + _field(6, empty + _field(1, inner))
            + bytes([20 << 3 & 127 | 128, 1, 5])
        )
        inner = node + _field(5, branch)
    model = _model([], [helper.make_tensor("yes", TensorProto.BOOL, [], [True])])
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    return _bytes(model) + _field(7, graph + _field(1, inner))


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    length, head = len(content), bytes([number << 3 | 2])
    while length > 127:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + content


def many_nodes(count: int) -> bytes:
    """A chain of them."""
    names = ["x", *(f"t{number}" for number in range(count - 1)), "y"]
    return _bytes(_model([helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]))


def tensor_of(shape: Sequence[int]) -> bytes:
    """A float32 weight of this shape, of which the file holds one number."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, raw_data=bytes(4))
    return _bytes(_model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor]))


def sparse(shape: Sequence[int]) -> bytes:
    """A sparse weight of this shape with one number in it."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, indices, shape)
    return _bytes(_model([helper.make_node("Add", ["x", "w"], ["y"])], sparse=[tensor]))


def greedy() -> bytes:
    """Asks for 2^40 times its input when it runs; nothing of it can be computed before."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "million"], ["large"]),
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    return _bytes(_model(nodes, [helper.make_tensor("million", TensorProto.INT64, [], [1 << 20])]))


def unconnected() -> bytes:
    """A node takes what nothing gives."""
    return _bytes(_model([helper.make_node("Add", ["x", "nobody"], ["y"])]))


def versions(*, opset: int = 17, ir: int = 9) -> bytes:
    """Written for these versions of the operators and of the file format."""
    model = _model([helper.make_node("Identity", ["x"], ["y"])])
    model.opset_import[0].version = opset
    model.ir_version = ir
    return _bytes(model)
