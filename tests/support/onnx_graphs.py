"""Small ONNX graphs with known answers, for tests: each builder returns the bytes of a model."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]

TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}


def _value(name: str, dtype: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[dtype], list(shape))


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    domains: Sequence[str] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return content


def echo(dtype: str, shape: Shape, *, name: str = "x") -> bytes:
    """Answers its one input as `y`."""
    return _model(
        [helper.make_node("Identity", [name], ["y"])],
        [_value(name, dtype, shape)],
        [_value("y", dtype, shape)],
    )


def echo_columns(columns: dict[str, str], tail: Shape = ()) -> bytes:
    """One input a column, each answered under its name with `_out` added."""
    return _model(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in columns],
        [_value(name, dtype, ["N", *tail]) for name, dtype in columns.items()],
        [_value(f"{name}_out", dtype, ["N", *tail]) for name, dtype in columns.items()],
    )


def half_scores() -> bytes:
    """`x` float16[N, 2] → `y` float16[N, 2]: twice the first number, and the sum of both."""
    weights = helper.make_tensor("weights", TensorProto.FLOAT16, [2, 2], [2.0, 1.0, 0.0, 1.0])
    return _model(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        [_value("x", "float16", ["N", 2])],
        [_value("y", "float16", ["N", 2])],
        [weights],
    )


def lookup(length: int = 4) -> bytes:
    """`index` int64[N] → `value` float32[N], 10 times the index; one of `length` or more fails the whole batch."""
    values = [10.0 * index for index in range(length)]
    table = helper.make_tensor("table", TensorProto.FLOAT, [length], values)
    return _model(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        [_value("index", "int64", ["N"])],
        [_value("value", "float32", ["N"])],
        [table],
    )


def classified(length: int) -> bytes:
    """`index` int64[N] → `label` int64[N], the index, and `probabilities`; an index of `length` or more fails."""
    labels = helper.make_tensor("labels", TensorProto.INT64, [length], list(range(length)))
    shares = [value for index in range(length) for value in (index / 10, 1 - index / 10)]
    scores = helper.make_tensor("scores", TensorProto.FLOAT, [length, 2], shares)
    return _model(
        [
            helper.make_node("Gather", ["labels", "index"], ["label"]),
            helper.make_node("Gather", ["scores", "index"], ["probabilities"]),
        ],
        [_value("index", "int64", ["N"])],
        [_value("label", "int64", ["N"]), _value("probabilities", "float32", ["N", 2])],
        [labels, scores],
    )


def zip_map() -> bytes:
    """`x` float32[N, 2] → `label` and a ZipMap of the classes "b", "a": skl2onnx's default shape of a classifier."""
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    zipped = helper.make_node(
        "ZipMap", ["x"], ["output_probability"], domain="ai.onnx.ml", classlabels_strings=["b", "a"]
    )
    return _model(
        [helper.make_node("ArgMax", ["x"], ["output_label"], axis=1, keepdims=0), zipped],
        [_value("x", "float32", ["N", 2])],
        [_value("output_label", "int64", ["N"]), helper.make_value_info("output_probability", maps)],
        domains=["ai.onnx.ml"],
    )


def quotients() -> bytes:
    """`x` int64[N] → `y` int64[N], -2^63 divided by it. -1 ends the process by SIGFPE: 2^63 is no int64."""
    least = helper.make_tensor("least", TensorProto.INT64, [], [-(1 << 63)])
    return _model(
        [helper.make_node("Div", ["least", "x"], ["y"])],
        [_value("x", "int64", ["N"])],
        [_value("y", "int64", ["N"])],
        [least],
    )


def one_row_only() -> bytes:
    """Declares an open batch axis, but reshapes to a single row inside."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3])
    return _model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [_value("x", "float32", ["N", 3])],
        [_value("y", "float32", ["N", 3])],
        [shape],
    )


def minus_batch_mean(dtype: str = "float32", *, shape: Shape = ("N", 3)) -> bytes:
    """`x` → `y` float32: what each row has more than the mean of the batch. Alone it is always 0."""
    return _model(
        [
            helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["real", "mean"], ["y"]),
        ],
        [_value("x", dtype, shape)],
        [_value("y", "float32", shape)],
    )


def quantized() -> bytes:
    """`x` float32[N, 3] → `y` float32[N, 3], rounded to 256 steps between the smallest and the largest of the batch."""
    return _model(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["steps", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["y"]),
        ],
        [_value("x", "float32", ["N", 3])],
        [_value("y", "float32", ["N", 3])],
    )


def text_shares() -> bytes:
    """`x` string[N] → `y` float32[N]: 1 over the number of rows, whatever the texts."""
    return _model(
        [
            helper.make_node("Shape", ["x"], ["count"]),
            helper.make_node("Cast", ["count"], ["rows"], to=TensorProto.FLOAT),
            helper.make_node("Reciprocal", ["rows"], ["share"]),
            helper.make_node("Expand", ["share", "count"], ["y"]),
        ],
        [_value("x", "string", ["N"])],
        [_value("y", "float32", ["N"])],
    )


def token_echo() -> bytes:
    """`input_ids`, `attention_mask` int64[N, T] → `ids` int64[N, T]: the tokens, padding included."""
    return _model(
        [helper.make_node("Identity", ["input_ids"], ["ids"])],
        [_value("input_ids", "int64", ["N", "T"]), _value("attention_mask", "int64", ["N", "T"])],
        [_value("ids", "int64", ["N", "T"])],
    )


def padded_length() -> bytes:
    """`input_ids`, `attention_mask` int64[N, T] → `columns` float32[N]: T, the padding counted."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    return _model(
        [
            helper.make_node("Equal", ["input_ids", "input_ids"], ["yes"]),
            helper.make_node("Cast", ["yes"], ["ones"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["ones", "axes"], ["columns"], keepdims=0),
        ],
        [_value("input_ids", "int64", ["N", "T"]), _value("attention_mask", "int64", ["N", "T"])],
        [_value("columns", "float32", ["N"])],
        [axes],
    )


def unknown_operator(operator: str = "NoSuchOperator", domain: str = "") -> bytes:
    """A graph of one operator that no runtime knows."""
    return _model(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        [_value("x", "float32", ["N", 3])],
        [_value("y", "float32", ["N", 3])],
        domains=[domain] if domain else [],
    )


def endless() -> bytes:
    """`x` float32[N, 1] → a loop that goes on for 2^62 steps."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("Add", ["state", "state"], ["next_state"]),
        ],
        "body",
        [_value("step", "int64", []), _value("going", "bool", []), _value("state", "float32", ["N", 1])],
        [_value("still_going", "bool", []), _value("next_state", "float32", ["N", 1])],
    )
    steps = helper.make_tensor("steps", TensorProto.INT64, [], [1 << 62])
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    return _model(
        [helper.make_node("Loop", ["steps", "always", "x"], ["y"], body=body)],
        [_value("x", "float32", ["N", 1])],
        [_value("y", "float32", ["N", 1])],
        [steps, always],
    )


def as_many_steps() -> bytes:
    """`x` int64[N] → itself, after a loop of as many steps as the largest of it says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("Identity", ["state"], ["next_state"]),
        ],
        "body",
        [_value("step", "int64", []), _value("going", "bool", []), _value("state", "int64", ["N"])],
        [_value("still_going", "bool", []), _value("next_state", "int64", ["N"])],
    )
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    return _model(
        [
            helper.make_node("ReduceMax", ["x"], ["steps"], keepdims=0),
            helper.make_node("Loop", ["steps", "always", "x"], ["y"], body=body),
        ],
        [_value("x", "int64", ["N"])],
        [_value("y", "int64", ["N"])],
        [always],
    )


def busy(side: int = 1000, products: int = 8) -> bytes:
    """`x` float32[1, 1] → itself, after products of matrices that cannot be folded: about a third of a second."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [side, side])
    none = helper.make_tensor("none", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "none"], ["zero"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["zeros", "zero"], ["product0"]),
        *(
            helper.make_node("MatMul", [f"product{n}", f"product{n}"], [f"product{n + 1}"])
            for n in range(products)
        ),
        helper.make_node("ReduceMax", [f"product{products}"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    return _model(nodes, [_value("x", "float32", [1, 1])], [_value("y", "float32", [1, 1])], [shape, none])


def hungry() -> bytes:
    """`x` int64[N] → a constant of 2^44 elements, more than any memory."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [1 << 44])
    return _model(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["large"]),
            helper.make_node("ReduceSum", ["large"], ["total"], keepdims=1),
            helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["real", "total"], ["y"]),
        ],
        [_value("x", "int64", ["N"])],
        [_value("y", "float32", ["N"])],
        [shape],
    )


def token_sum(length: int | str = "T") -> bytes:
    """`input_ids`, `attention_mask` int64[N, T] → `total` float32[N]: the sum of the ids that the mask lets through."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    return _model(
        [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axes"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["total"], to=TensorProto.FLOAT),
        ],
        [_value("input_ids", "int64", ["N", length]), _value("attention_mask", "int64", ["N", length])],
        [_value("total", "float32", ["N"])],
        [axes],
    )
