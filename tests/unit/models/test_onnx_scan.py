"""The scan of a model's bytes: what it lets through, what it refuses, and that no bytes make it fail otherwise."""

from __future__ import annotations

import random

import onnx
import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models import onnx_scan, onnx_wire
from fyretoolkit.models.onnx_operators import ALLOWED_OF_MICROSOFT, HIGHEST_IR_VERSION, HIGHEST_OPSET
from fyretoolkit.models.onnx_scan import scan_content
from fyretoolkit.settings import PROJECT_ROOT
from tests.support import broken_graphs, onnx_graphs
from tests.support.onnx_graphs import echo

GRAPHS = {
    "echo": echo("float32", ["N", 3]),
    "lookup": onnx_graphs.lookup(),
    "zip_map": onnx_graphs.zip_map(),
    "endless": onnx_graphs.endless(),
    "token_sum": onnx_graphs.token_sum(),
    "function_bomb": broken_graphs.function_bomb(2, 3),
    "nested": broken_graphs.nested(20),
    "sparse": broken_graphs.sparse([2, 3]),
    "external": broken_graphs.external_attribute(),
}
DEMO_MODELS = sorted((PROJECT_ROOT / "configs" / "demo_models").glob("*/model.onnx"))


def refusal(content: bytes) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        scan_content(content)
    return caught.value


def changed(content: bytes, change: object) -> bytes:
    """The model after `change(model)`."""
    model = onnx.load_from_string(content)
    change(model)  # type: ignore[operator]
    result: bytes = model.SerializeToString()
    return result


def add_weight(tensor: TensorProto) -> bytes:
    """A model that holds this tensor."""
    return changed(GRAPHS["echo"], lambda model: model.graph.initializer.append(tensor))


@pytest.mark.parametrize("path", DEMO_MODELS, ids=[path.parent.name for path in DEMO_MODELS])
def test_the_demo_models_are_served(path: object) -> None:
    """Among them what skl2onnx exports: Microsoft's Tokenizer, ai.onnx.ml."""
    scan_content(path.read_bytes())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"external"}))
def test_sound_graphs_are_let_through(name: str) -> None:
    """Subgraphs, local functions, small sparse tensors."""
    scan_content(GRAPHS[name])


@pytest.mark.parametrize("dtype", sorted(onnx_graphs.TYPES))
@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "typed"])
def test_tensors_that_hold_what_they_say_are_let_through(dtype: str, is_raw: bool) -> None:
    """Of every type, in either way of writing them."""
    if dtype == "string":
        values: object = [b"", b"x", b"y"] * 100
    else:
        values = [0, 1, 1] * 100
        is_float16 = dtype == "float16"
        if is_raw:
            values = helper.tensor_dtype_to_np_dtype(onnx_graphs.TYPES[dtype]).type(1).tobytes() * 300
        elif is_float16:
            values = [0.0, 1.0, 1.0] * 100
    scan_content(
        add_weight(
            helper.make_tensor(
                "w", onnx_graphs.TYPES[dtype], [3, 100], values, raw=is_raw and dtype != "string"
            )
        )
    )


@pytest.mark.parametrize("data_type", [TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16, 18, 23])
def test_packed_and_short_numbers_are_let_through(data_type: int) -> None:
    """Two of four bits share a byte."""
    scan_content(add_weight(helper.make_tensor("w", data_type, [7], [1.0] * 7)))


@pytest.mark.parametrize(
    ("dims", "raw", "code"),
    [
        ([1 << 30], b"1234", "artifact_too_large"),
        ([1 << 62, 1 << 62], b"", "artifact_too_large"),
        ([3], b"12345678", "invalid_onnx"),
        ([-1], b"1234", "invalid_onnx"),
        ([1] * 65, b"1234", "invalid_onnx"),
        ([], b"", "invalid_onnx"),
    ],
)
def test_a_shape_beyond_the_data_is_refused(dims: list[int], raw: bytes, code: str) -> None:
    """The runtime would allocate first; its name tells which one."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw)
    error = refusal(add_weight(tensor))
    assert error.code == code


def test_an_empty_tensor_needs_no_data() -> None:
    """A length of 0 makes it so, whatever the others are."""
    scan_content(add_weight(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 0])))


def test_a_forest_is_read_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thresholds and kinds of nodes, each a field of its own, cost a step for thousands of them."""
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["z"], domain="ai.onnx.ml",
        nodes_values=[0.5] * 300_000, nodes_nodeids=[*range(300_000)],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 100_000,
    )  # fmt: skip
    content = changed(GRAPHS["zip_map"], lambda model: model.graph.node.append(node))
    monkeypatch.setattr(onnx_wire.Budget.__init__, "__defaults__", (1000,))
    scan_content(content)


def test_a_file_of_countless_fields_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget ends what nothing else ends."""
    monkeypatch.setattr(onnx_wire.Budget.__init__, "__defaults__", (1000,))
    content = changed(GRAPHS["echo"], lambda model: model.graph.node[0].input.extend(["x"] * 2000))
    assert refusal(content).code == "artifact_too_large"


def test_functions_are_counted_as_often_as_they_are_called() -> None:
    """10^5 nodes are allowed, one more is not, though the file is small; so are graphs within functions."""
    scan_content(broken_graphs.function_bomb(5, 10))
    assert refusal(broken_graphs.function_bomb(5, 11)).code == "artifact_too_large"


def test_a_bomb_that_nobody_calls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime may write it out before it looks who calls."""
    content = changed(broken_graphs.function_bomb(), lambda model: model.graph.node[0].CopyFrom(
        helper.make_node("Identity", ["x"], ["y"])))  # fmt: skip
    assert refusal(content).code == "artifact_too_large"


def test_a_long_chain_of_functions_is_counted_without_recursion() -> None:
    """Each calls the next one, ten thousand times."""
    scan_content(broken_graphs.function_bomb(10_000, 1))


@pytest.mark.parametrize("field", ["op_type", "domain"])
def test_a_name_written_twice_is_refused(field: str) -> None:
    """Readers differ in which one counts."""
    number = {"op_type": 4, "domain": 7}[field]
    node = helper.make_node("Identity", ["x"], ["y"], domain="x").SerializeToString()
    twice = node + bytes([number << 3 | 2, 1]) + b"a"
    graph = bytes([1 << 3 | 2, len(twice)]) + twice
    assert refusal(bytes([7 << 3 | 2, len(graph)]) + graph).code == "invalid_onnx"


def test_two_graphs_are_refused() -> None:
    """Protobuf would join them after each was looked at."""
    assert refusal(GRAPHS["echo"] + bytes([7 << 3 | 2, 0])).code == "invalid_onnx"


def test_a_local_function_may_have_any_domain() -> None:
    """It brings its own nodes; without it the same name is a custom operator."""
    content = broken_graphs.function_bomb(1, 1)
    scan_content(content)
    error = refusal(changed(content, lambda model: model.ClearField("functions")))
    assert error.code == "unsupported_operator"
    assert "local.f1" in error.message


def test_onnx_by_its_other_name_is_onnx() -> None:
    """`ai.onnx` is the empty domain."""
    scan_content(onnx_graphs.unknown_operator("Identity", "ai.onnx"))


def session_error(content: bytes) -> str | None:
    """What ONNX Runtime says of a model; None if it loads."""
    try:
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # of five classes
        return str(error)
    return None


@pytest.mark.parametrize("domain", sorted(HIGHEST_OPSET))
def test_the_highest_opset_is_the_runtimes(domain: str) -> None:
    """One more is refused by both, so that the table is corrected when the runtime is replaced."""

    def ask(version: int) -> bytes:
        def change(model: onnx.ModelProto) -> None:
            if domain:
                model.opset_import.add(domain=domain, version=version)
            else:
                model.opset_import[0].version = version

        return changed(GRAPHS["echo"], change)

    highest = HIGHEST_OPSET[domain]
    scan_content(ask(highest))
    assert session_error(ask(highest)) is None
    assert refusal(ask(highest + 1)).code == "unsupported_operator"
    assert session_error(ask(highest + 1)) is not None
    assert refusal(ask(0)).code == "unsupported_operator"
    assert refusal(ask(-1)).code == "unsupported_operator"


def test_the_highest_file_format_is_the_runtimes() -> None:
    """As with the opset."""
    assert session_error(broken_graphs.versions(ir=HIGHEST_IR_VERSION)) is None
    scan_content(broken_graphs.versions(ir=HIGHEST_IR_VERSION))
    assert session_error(broken_graphs.versions(ir=HIGHEST_IR_VERSION + 1)) is not None
    assert refusal(broken_graphs.versions(ir=HIGHEST_IR_VERSION + 1)).code == "invalid_onnx"


def test_what_is_allowed_of_microsoft_exists() -> None:
    """A name that the runtime does not know was renamed, or misspelled."""
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    assert {schema.name for schema in schemas if schema.domain == "com.microsoft"} >= ALLOWED_OF_MICROSOFT


def verdict(content: bytes) -> str:
    """The code; nothing if it is let through."""
    try:
        scan_content(content)
    except PlatformError as error:
        return error.code
    return ""


CODES = {"", "invalid_onnx", "unsupported_operator", "artifact_too_large"}


@given(name=st.sampled_from(sorted(GRAPHS)), seed=st.integers(0, 1 << 32), changes=st.integers(1, 8))
@example(name="echo", seed=0, changes=1)
def test_mutated_models_get_a_code(name: str, seed: int, changes: int) -> None:
    """Bytes replaced, removed, doubled, inserted: never another exception, never endless."""
    chance = random.Random(seed)
    content = bytearray(GRAPHS[name])
    for _ in range(changes):
        at = chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                content[at] = chance.randrange(256)
            case 1:
                del content[at : at + chance.randrange(1, 20)]
            case 2:
                content[at:at] = content[at : at + chance.randrange(1, 200)]
            case 3:
                content[at:at] = chance.randbytes(chance.randrange(1, 12))
        if not content:
            break
    assert verdict(bytes(content)) in CODES


@given(content=st.binary(max_size=300))
def test_any_bytes_get_a_code(content: bytes) -> None:
    """No model at all."""
    assert verdict(content) in CODES - {""}


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_a_model_cut_short_is_never_let_through(name: str) -> None:
    """At no place but one between its top-level fields, where it is a whole message."""
    content = GRAPHS[name]
    boundaries = set()
    position = 0
    for number, value in onnx_wire.Message(content, 0, len(content), onnx_wire.Budget()).fields():
        del number
        boundaries.add(position)
        position = value.end if isinstance(value, onnx_wire.Message) else position + 2
    for length in range(1, len(content)):
        if verdict(content[:length]) == "":
            assert length in boundaries, length


def test_the_depth_of_graphs_is_bounded() -> None:
    """As many as are allowed, and one more."""
    scan_content(broken_graphs.nested(onnx_scan.MAX_DEPTH))
    error = refusal(broken_graphs.nested(onnx_scan.MAX_DEPTH + 1))
    assert (error.code, str(onnx_scan.MAX_DEPTH) in error.message) == ("invalid_onnx", True)
