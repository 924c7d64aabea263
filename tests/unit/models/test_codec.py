"""Items to arrays: what fits, and the path of what does not."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from fyretoolkit.models.codec import Codec
from fyretoolkit.models.manifest import parse_manifest
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import resolve

OUTPUT = (TensorSpec("y", "float32", (None,)),)


def codec(*inputs: TensorSpec, manifest: str = "") -> Codec:
    return Codec(resolve(parse_manifest(manifest), Signature(inputs, OUTPUT)))


def tensor(dtype: str, *row: int | None) -> Codec:
    return codec(TensorSpec("x", dtype, (None, *row)))


def misfits(codec: Codec, *items: object, cells_are_text: bool = False) -> list[tuple[int, str]]:
    return [(error.index, error.path) for error in codec.decode(items, cells_are_text).errors]


def message(codec: Codec, item: object, *, cells_are_text: bool = False) -> str:
    (error,) = codec.decode([item], cells_are_text).errors
    return error.message


VECTOR = codec(TensorSpec("x", "float32", (None, 2)), manifest="inputs: {features: [width, height]}")
COLUMNS = codec(
    TensorSpec("age", "int64", (None, 1)),
    TensorSpec("city", "string", (None, 1)),
    TensorSpec("weight", "float32", (None,)),
    TensorSpec("is_new", "bool", (None, 1)),
)
PERSON = {"age": 30, "city": "Bern", "weight": 71.5, "is_new": True}
TEXT = tensor("string", 1)


def test_text_is_a_string_or_an_object_with_the_input_name() -> None:
    """Shape [N, 1] as the graph has it."""
    for items in (["a", "b"], [{"x": "a"}, {"x": "b"}], ["a", {"x": "b"}]):
        decoded = TEXT.decode(items)
        assert decoded.arrays["x"].tolist() == [["a"], ["b"]]
        assert decoded.arrays["x"].dtype == object
        assert decoded.kept == [0, 1]
    assert tensor("string").decode(["a"]).arrays["x"].tolist() == ["a"]


@pytest.mark.parametrize(
    "item", [None, 3, 3.5, True, [1], ["a"], {"x": None}, {"y": "a"}, {}, {"x": "a", "y": "b"}]
)
def test_nothing_but_a_string_becomes_text(item: object) -> None:
    """ONNX Runtime takes None and numbers in a string tensor without a word; this is where they stop."""
    decoded = TEXT.decode(["good", item, "also good"])
    assert decoded.kept == [0, 2]
    assert [error.index for error in decoded.errors] == [1]
    assert decoded.arrays["x"].tolist() == [["good"], ["also good"]]


def test_half_a_surrogate_pair_is_an_error_and_a_nul_is_text() -> None:
    """The first cannot be encoded; the second can, and a fixed-width string array would have dropped it."""
    assert misfits(TEXT, "\ud83d", "\ud83d\ude00") == [(0, ""), (1, "")]
    assert TEXT.decode(["a\0"]).arrays["x"].tolist() == [["a\0"]]


def test_features_are_laid_out_in_the_manifest_order() -> None:
    """Whatever the object's own order."""
    decoded = VECTOR.decode([{"height": 2, "width": 1}, {"width": 3.5, "height": 4}])
    assert decoded.arrays["x"].tolist() == [[1.0, 2.0], [3.5, 4.0]]
    assert decoded.arrays["x"].dtype == np.float32
    assert VECTOR.decode([{"x": {"width": 1, "height": 2}}]).arrays["x"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"width": 1}, ".height"),
        ({"width": 1, "height": 2, "depth": 3}, ".depth"),
        ({"width": 1, "hieght": 2}, ".hieght"),
        ({"width": float("nan"), "height": 2}, ".width"),
        ({"width": 1, "height": float("inf")}, ".height"),
        ({"width": True, "height": 2}, ".width"),
        ({"width": "1", "height": 2}, ".width"),
        ({"width": None, "height": 2}, ".width"),
        ({"width": [1], "height": 2}, ".width"),
        ({"width": 1e39, "height": 2}, ".width"),
        ({"width": 10**400, "height": 2}, ".width"),
        ({"x": {"width": 1, "height": None}}, ".x.height"),
        ([1, 2], ""),
        (None, ""),
    ],
)
def test_a_bad_feature_is_named_and_its_neighbours_kept(item: object, path: str) -> None:
    """Index and path of every kind of mistake."""
    good = {"width": 1, "height": 2}
    decoded = VECTOR.decode([good, item, good])
    assert [(error.index, error.path) for error in decoded.errors] == [(1, path)]
    assert decoded.arrays["x"].tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_one_input_per_feature_keeps_each_type() -> None:
    """String, integer, float and boolean columns side by side."""
    arrays = COLUMNS.decode([PERSON, {**PERSON, "city": "Zürich"}]).arrays
    assert arrays["age"].tolist() == [[30], [30]]
    assert arrays["age"].dtype == np.int64
    assert arrays["city"].tolist() == [["Bern"], ["Zürich"]]
    assert arrays["weight"].tolist() == [71.5, 71.5]
    assert arrays["is_new"].dtype == np.bool_


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"age": 2**63}, ".age"),
        ({"age": 1.5}, ".age"),
        ({"age": True}, ".age"),
        ({"city": 8000}, ".city"),
        ({"city": None}, ".city"),
        ({"is_new": 1}, ".is_new"),
        ({"weight": "71.5"}, ".weight"),
        ({"wieght": 1}, ".wieght"),
    ],
)
def test_a_bad_column_is_named(change: dict[str, object], path: str) -> None:
    """Overflow of an integer included."""
    assert misfits(COLUMNS, PERSON, {**PERSON, **change}) == [(1, path)]


def test_csv_cells_are_cast_to_the_signature_and_only_then() -> None:
    """`00123` stays text where the signature says string."""
    cells = {"age": " 30", "city": "00123", "weight": "7.15e1", "is_new": "TRUE"}
    arrays = COLUMNS.decode([cells], cells_are_text=True).arrays
    assert [arrays[name].item() for name in COLUMNS.input_names] == [30, "00123", 71.5, True]
    assert len(COLUMNS.decode([cells]).errors) == 1


@pytest.mark.parametrize(
    "cell", ["", "  ", "x", "nan", "inf", "1_000", "0x10", "1,5", "٣", "1e999", "9" * 500]
)
def test_a_cell_that_is_no_number_is_an_error(cell: str) -> None:
    """Python's float() takes several of these; a CSV's author did not mean them."""
    assert misfits(VECTOR, {"width": "1", "height": cell}, cells_are_text=True) == [(0, ".height")]


def test_a_cell_holds_a_whole_tensor_as_json() -> None:
    """A CSV column of an image."""
    images = tensor("float32", 2, 2)
    assert images.decode([{"x": "[[1, 2], [3, 4]]"}], cells_are_text=True).arrays["x"].tolist() == [
        [[1, 2], [3, 4]]
    ]
    assert misfits(images, {"x": "[[1, 2]"}, {"x": "[[1, 2], [3, null]]"}, cells_are_text=True) == [
        (0, ".x"),
        (1, ".x[1][1]"),
    ]


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ([[1, 2], [3]], "[1]"),
        ([[1, 2], [3, None]], "[1][1]"),
        ([[1, 2], [3, True]], "[1][1]"),
        ([[1, 2], "ab"], "[1]"),
        ([[1, 2], [3, [4]]], "[1][1]"),
        ([1, 2], "[0]"),
        ([], ""),
        ({"x": [[1, 2], ["3", 4]]}, ".x[1][0]"),
    ],
)
def test_the_path_leads_into_a_tensor(item: object, path: str) -> None:
    """`inputs[3][1][0]` when the caller puts its prefix before it."""
    assert misfits(tensor("float32", 2, 2), [[1, 2], [3, 4]], item) == [(1, path)]


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("uint8", [0, 255], [256, -1, 0.5, True, "1", None]),
        ("int8", [-128, 127], [128, -129]),
        ("uint64", [0, 2**64 - 1], [2**64, -1]),
        ("int64", [-(2**63), 2**63 - 1], [2**63, 1e300]),
        ("float16", [-65504, 0.5], [65536, float("nan")]),
        ("float64", [1e308, -3], [10**400, float("-inf"), False]),
        ("bool", [True, False], [0, 1, "true", None]),
    ],
)
def test_every_dtype_keeps_its_range(dtype: str, good: list[object], bad: list[object]) -> None:
    """Bounds by hand, from the IEEE and two's complement ranges."""
    reader = tensor(dtype)
    decoded = reader.decode(good)
    assert decoded.arrays["x"].tolist() == good
    assert decoded.arrays["x"].dtype == np.dtype(dtype)
    assert misfits(reader, *bad) == [(index, "") for index in range(len(bad))]


@pytest.mark.parametrize("number", [65504, 65519.99, -65519.99, 1e-8, 0.1])
def test_a_half_is_the_nearest_one(number: float) -> None:
    """IEEE 754: what rounds to 65,504 fits, and what is too small is 0."""
    assert tensor("float16").decode([number]).arrays["x"].tolist() == [float(np.float16(number))]


@pytest.mark.parametrize("number", [65520, -65520, 1e5, 1e39, 10**400, float("nan"), float("inf")])
def test_what_no_half_can_hold_is_refused_beside_good_ones(number: float) -> None:
    """An infinity would go through a model as an answer. In a list, alone, as bytes, and in a CSV's cell."""
    halves = tensor("float16", 2)
    assert misfits(halves, [1, 2], [1, number], [3, 4]) == [(1, "[1]")]
    assert halves.decode([[1, 2], [1, number], [3, 4]]).arrays["x"].tolist() == [[1, 2], [3, 4]]
    assert [error.index for error in tensor("float16").decode(["1", "7e4"], cells_are_text=True).errors] == [
        1
    ]
    with np.errstate(over="ignore"):
        raw = base64.b64encode(np.array([1, np.inf], dtype="<f2").tobytes()).decode()
    assert misfits(halves, {"b64": raw}) == [(0, ".b64")]


def test_a_whole_float_is_an_integer() -> None:
    """JavaScript and pandas write 3.0 for 3."""
    assert tensor("int32").decode([3.0, 4]).arrays["x"].tolist() == [3, 4]


def test_base64_is_the_rows_little_endian_bytes() -> None:
    """Exact length, finite, and mixed with nested lists in one call."""
    images = tensor("float32", 2, 2)
    raw = base64.b64encode(np.array([1, 2, 3, 4], dtype="<f4").tobytes()).decode()
    decoded = images.decode([{"b64": raw}, {"x": {"b64": raw}}, [[5, 6], [7, 8]]])
    assert decoded.arrays["x"].reshape(3, 4).tolist() == [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]
    nan = base64.b64encode(np.array([1, 2, 3, np.nan], dtype="<f4").tobytes()).decode()
    for bad in (raw[:-4], raw + raw, "AAA", "é", "", nan):
        assert misfits(images, {"b64": bad}) == [(0, ".b64")]
    assert misfits(images, {"b64": 3}, {"b64": raw, "shape": [2, 2]}) == [(0, ""), (1, "")]
    assert misfits(tensor("bool", 2), {"b64": "AQI="}) == [(0, ".b64")]
    assert "16 bytes" in message(images, {"b64": ""})


def test_base64_fills_one_open_length() -> None:
    """Bytes per step must divide what came."""
    series = tensor("int16", None, 2)
    assert series.decode([{"b64": base64.b64encode(bytes(12)).decode()}]).arrays["x"].shape == (1, 3, 2)
    assert misfits(series, {"b64": base64.b64encode(bytes(6)).decode()}) == [(0, ".b64")]
    assert misfits(tensor("int16", None, None), {"b64": "AAAA"}) == [(0, "")]


def test_rows_of_another_length_are_told_apart_from_bad_ones() -> None:
    """Each is right, but one array cannot hold both."""
    decoded = tensor("float32", None).decode([[1, 2], [3], [4, 5], "x"])
    assert decoded.kept == [0, 2]
    assert [(error.index, error.is_shape_conflict) for error in decoded.errors] == [(1, True), (3, False)]


def test_nothing_and_nothing_good_have_no_arrays() -> None:
    """ONNX Runtime refuses zero rows; so callers look at `kept`."""
    assert TEXT.decode([]).arrays == {}
    assert TEXT.decode([None]).arrays == {}


def test_messages_do_not_repeat_what_was_sent() -> None:
    """An input may be private, or megabytes long; names are cut."""
    assert "secret" not in message(VECTOR, {"width": "secret", "height": 1})
    assert len(message(VECTOR, {f"{index}" * 1000: 1 for index in range(1000)})) < 1500
