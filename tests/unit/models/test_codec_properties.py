"""Properties of the codec: any JSON in, never another exception; and the fast path equals the careful one."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fyretoolkit.models.codec import Codec
from fyretoolkit.models.manifest import parse_manifest
from fyretoolkit.models.signature import DTYPES, Signature, TensorSpec
from fyretoolkit.models.spec import resolve
from fyretoolkit.models.tensors import MisfitError, TensorReader

OUTPUT = (TensorSpec("y", "float32", (None,)),)
FEATURES = "inputs: {features: [a, b]}"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "b", "x", "b64", "text"]) | st.text(max_size=3), children, max_size=3
        )
    ),
    max_leaves=12,
)
SHAPES = st.lists(st.none() | st.integers(1, 3), max_size=3).map(tuple)
SPECS = st.builds(
    lambda dtype, row: TensorSpec("x", dtype, (None, *row)), st.sampled_from(sorted(DTYPES)), SHAPES
)


def codecs() -> st.SearchStrategy[Codec]:
    """Codecs of every kind."""
    single = SPECS.map(lambda spec: Codec(resolve(None, Signature((spec,), OUTPUT))))
    columns = st.tuples(SPECS, SPECS).map(
        lambda pair: Codec(
            resolve(
                None,
                Signature(
                    tuple(
                        TensorSpec(name, spec.dtype, spec.shape)
                        for name, spec in zip("ab", pair, strict=True)
                    ),
                    OUTPUT,
                ),
            )
        )
    )
    vector = st.sampled_from(sorted(DTYPES - {"string"})).map(
        lambda dtype: Codec(
            resolve(parse_manifest(FEATURES), Signature((TensorSpec("x", dtype, (None, 2)),), OUTPUT))
        )
    )
    return single | columns | vector


def values(draw: st.DrawFn, spec: TensorSpec, shape: tuple[int, ...]) -> Any:
    """A value that fits, of exactly this row shape."""
    if shape:
        return [values(draw, spec, shape[1:]) for _ in range(shape[0])]
    if spec.dtype == "string":
        return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
    if spec.dtype == "bool":
        return draw(st.booleans())
    if spec.dtype.startswith("float"):
        limit = float(np.finfo(spec.dtype).max)
        numbers = st.floats(-limit, limit).map(lambda number: float(np.dtype(spec.dtype).type(number)))
        return draw(numbers)
    bounds = np.iinfo(spec.dtype)
    return draw(st.integers(int(bounds.min), int(bounds.max)))


@st.composite
def fitting(draw: st.DrawFn) -> tuple[TensorSpec, list[Any]]:
    """A tensor spec and items that fit it, all of one shape."""
    spec = draw(SPECS)
    shape = tuple(length or draw(st.integers(1, 3)) for length in spec.row_shape)
    rows = [values(draw, spec, () if spec.is_scalar_row else shape) for _ in range(draw(st.integers(1, 4)))]
    return spec, rows


@given(codecs(), st.lists(JSON, max_size=4), st.booleans())
@example(
    Codec(resolve(None, Signature((TensorSpec("x", "int8", (None,)),), OUTPUT))),
    [math.inf, -0.0, 2**70],
    False,
)
def test_any_json_gives_rows_or_errors(codec: Codec, items: list[Any], cells_are_text: bool) -> None:
    """Each item is kept or has one error, in order; arrays have a row for each that was kept, of the right type."""
    decoded = codec.decode(items, cells_are_text)
    indices = [error.index for error in decoded.errors]
    assert sorted(decoded.kept + indices) == list(range(len(items)))
    assert decoded.kept == sorted(decoded.kept)
    assert indices == sorted(indices)
    assert all(error.message for error in decoded.errors)
    for spec in codec.spec.signature.inputs if decoded.kept else ():
        array = decoded.arrays[spec.name]
        assert len(array) == len(decoded.kept)
        assert array.dtype == (object if spec.dtype == "string" else np.dtype(spec.dtype))
        assert array.ndim == len(spec.shape)
        if spec.dtype == "string":
            assert all(type(text) is str for text in array.ravel())


@given(fitting())
def test_what_fits_comes_back_unchanged(case: tuple[TensorSpec, list[Any]]) -> None:
    """decode then encode of an echo is the identity, shape included."""
    spec, rows = case
    codec = Codec(resolve(None, Signature((spec,), (spec,))))
    decoded = codec.decode(rows)
    assert decoded.errors == []
    assert decoded.arrays["x"].shape[0] == len(rows)
    echoed = codec.encode(decoded.arrays)
    assert [row["x"] for row in echoed] == rows
    json.dumps(echoed, allow_nan=False)


@given(fitting(), st.sampled_from([None, {"no": 1}, "\ud800"]), st.integers(0, 4))
def test_one_bad_item_changes_nothing_for_the_others(
    case: tuple[TensorSpec, list[Any]], bad: object, place: int
) -> None:
    """The careful path, which a bad item causes, reads the good ones as the fast path does."""
    spec, rows = case
    codec = Codec(resolve(None, Signature((spec,), OUTPUT)))
    place = min(place, len(rows))
    together = codec.decode([*rows[:place], bad, *rows[place:]])
    assert [error.index for error in together.errors] == [place]
    alone = codec.decode(rows)
    assert np.array_equal(together.arrays["x"], alone.arrays["x"])
    assert together.arrays["x"].dtype == alone.arrays["x"].dtype


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.lists(
        st.lists(st.integers() | st.floats() | st.sampled_from([None, "1", [1], 2**1100]), max_size=3),
        max_size=4,
    )
    | st.lists(
        st.lists(st.floats(-9e4, 9e4) | st.integers(), min_size=2, max_size=2), min_size=1, max_size=4
    ),
)
def test_what_is_known_to_hold_no_booleans_reads_alike(dtype: str, items: list[Any]) -> None:
    """The quickest way through numbers gives the same arrays, bit for bit, and the same errors."""
    codec = Codec(resolve(None, Signature((TensorSpec("x", dtype, (None, 2)),), OUTPUT)))
    known, unknown = codec.decode(items, has_booleans=False), codec.decode(items)
    assert (known.kept, known.errors) == (unknown.kept, unknown.errors)
    assert known.arrays.keys() == unknown.arrays.keys()
    for name, array in known.arrays.items():
        assert (array.dtype, array.shape) == (unknown.arrays[name].dtype, unknown.arrays[name].shape)
        assert array.tobytes() == unknown.arrays[name].tobytes()


@given(
    st.sampled_from(sorted(DTYPES - {"string", "bool"})),
    st.lists(
        st.integers().map(str)
        | st.floats().map(str)
        | st.sampled_from([" 1 ", "+2", "", "1_0", "٣", "3.0", ".5", "x"]),
        min_size=1,
        max_size=4,
    ),
)
def test_cells_together_read_as_cells_alone(dtype: str, cells: list[str]) -> None:
    """The fast path over CSV cells accepts what the careful one does, with the same numbers."""
    codec = Codec(resolve(None, Signature((TensorSpec("x", dtype, (None,)),), OUTPUT)))
    reader = TensorReader(TensorSpec("x", dtype, (None,)))
    decoded = codec.decode([{"x": cell} for cell in cells], cells_are_text=True)
    alone = []
    for cell in cells:
        with contextlib.suppress(MisfitError):
            alone.append(reader.read_row(cell, is_cell=True).item())
    assert decoded.arrays["x"].tolist() == alone if alone else decoded.arrays == {}


@given(fitting())
def test_base64_equals_nested_lists(case: tuple[TensorSpec, list[Any]]) -> None:
    """The same bytes by another way, where bytes can say it."""
    spec, rows = case
    codec = Codec(resolve(None, Signature((spec,), OUTPUT)))
    array = codec.decode(rows).arrays["x"]
    if spec.dtype == "string" or spec.row_shape.count(None) > 1:
        return
    little = array.astype(array.dtype.newbyteorder("<"))
    packed = [{"b64": base64.b64encode(row.tobytes()).decode()} for row in little]
    assert np.array_equal(codec.decode(packed).arrays["x"], array)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_nesting_is_an_error_not_a_crash(depth: int) -> None:
    """Reading goes no deeper than the tensor's rank."""
    item: list[Any] = []
    for _ in range(depth):
        item = [item]
    codec = Codec(resolve(None, Signature((TensorSpec("x", "float32", (None, None, 2)),), OUTPUT)))
    assert len(codec.decode([item]).errors) == 1
