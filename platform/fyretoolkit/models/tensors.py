"""JSON values to arrays, for one tensor: strict about types, and at numpy's speed when all is well.

`TensorReader.read_rows` takes the good case: one pass over the element types with C-speed iteration, then a single
conversion. It gives up (None) at anything unusual, and `read_row` then looks at one row at a time and says what is
wrong and where. `np.array(rows)` alone is not enough: it turns true into 1, None into nan and, beside a string,
numbers into strings; ONNX Runtime in turn takes None and numbers in a string tensor without a word.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import orjson

from fyretoolkit.models.signature import FLOATS, INTEGERS, STRING, TensorSpec

_FLOAT_CELL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MAX_CELL_LENGTH = 400
_BOOLEAN_CELLS = {"true": True, "false": False, "1": True, "0": False}
_KINDS = {
    bool: "a boolean", int: "a number", float: "a number", str: "a string",
    list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


class MisfitError(Exception):
    """A value that does not fit; `path` leads to it from the value that was read (`.mean_radius`, `[2][0]`)."""

    def __init__(self, message: str, path: str = "") -> None:
        self.message = message
        self.path = path
        super().__init__(message)

    def under(self, prefix: str) -> MisfitError:
        """The same misfit, seen from one level further up."""
        self.path = prefix + self.path
        return self


def kind_of(value: object) -> str:
    """What a message calls a JSON value."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


class TensorReader:
    """Reads the rows of one input tensor."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._dtype = np.dtype(object) if spec.dtype == STRING else np.dtype(spec.dtype)
        self._shape: tuple[int | None, ...] = () if spec.is_scalar_row else spec.row_shape
        self._allowed = _allowed_types(spec.dtype)
        self._plain_bound = float(np.finfo(spec.dtype).max) / 2 if spec.dtype in FLOATS else 0.0

    def read_rows(
        self, values: Sequence[object], *, are_cells: bool = False, has_booleans: bool = True
    ) -> np.ndarray | None:
        """All rows as one array of the spec's dtype and rank, or None unless every one is plainly right.

        `are_cells`: the elements may all be the text of CSV cells. `has_booleans`: see `Codec.decode`.
        """
        if not has_booleans and (floats := self._read_floats(values)) is not None:
            return floats
        level: list[Any] = list(values)
        lengths: list[int] = []
        for expected in self._shape:
            length = _common_length(level)
            if not length or expected not in (None, length):
                return None
            lengths.append(length)
            level = list(chain.from_iterable(level))
        if are_cells and set(map(type, level)) == {str}:
            level = _cast_numbers(level, self.spec.dtype) or level
        flat = self._cast(level)
        return None if flat is None else flat.reshape(len(values), *(lengths or self._scalar_tail()))

    def read_row(self, value: object, *, is_cell: bool = False) -> np.ndarray:
        """One row, without the batch axis. `is_cell`: the value is the text of a CSV cell, to be cast.

        Raises:
            MisfitError: what is wrong, and the path to it.
        """
        if isinstance(value, Mapping):
            return self._from_base64(value)
        if self._shape == ():
            is_listed = self.spec.row_shape == (1,) and isinstance(value, list) and len(value) == 1
            if is_listed and self.spec.dtype != STRING:  # a text is a string: a list holds several
                return self._scalar(cast(list[object], value)[0], is_cell=False, prefix="[0]")
            return self._scalar(value, is_cell=is_cell)
        if is_cell and isinstance(value, str):
            value = _parse_cell(value)
        shape = list(self._shape)
        flat: list[object] = []
        self._walk(value, 0, shape, flat)
        return np.array(flat, dtype=self._dtype).reshape([length or 0 for length in shape])

    def _read_floats(self, rows: Sequence[Any]) -> np.ndarray | None:
        """Rows that are lists of JSON's numbers, in half the time: no element is looked at from Python."""
        if len(self._shape) != 1 or self.spec.dtype not in FLOATS:
            return None
        length = _common_length(rows)
        if not length or self._shape[0] not in (None, length):
            return None
        pack = struct.Struct(f"{length}d").pack
        try:
            numbers = b"".join([pack(*row) for row in rows])
        except struct.error:  # a text, null, a list, or beyond a double
            return None
        wide = np.frombuffer(numbers, np.float64)
        if not np.abs(wide).max() < self._plain_bound:
            return None
        return wide.astype(self._dtype).reshape(len(rows), length)

    def _scalar_tail(self) -> list[int]:
        return [1] if self.spec.row_shape == (1,) else []

    def _cast(self, flat: list[Any]) -> np.ndarray | None:
        """A flat list as a one-dimensional array, if each element has a right type and fits the dtype."""
        if not set(map(type, flat)) <= self._allowed:
            return None
        try:
            if self.spec.dtype in FLOATS:
                return self._cast_floats(flat)
            if self.spec.dtype in INTEGERS:
                bounds = np.iinfo(self.spec.dtype)
                if min(flat) < bounds.min or max(flat) > bounds.max:
                    return None
            elif self.spec.dtype == STRING:
                "".join(flat).encode()  # lone surrogates raise
            return np.array(flat, dtype=self._dtype)
        except (OverflowError, UnicodeEncodeError):
            return None

    def _cast_floats(self, flat: list[Any]) -> np.ndarray | None:
        """As the dtype, if every value is finite in it."""
        if math.hypot(*flat) < self._plain_bound:  # so is each of them, and none is NaN
            return np.array(flat, dtype=self._dtype)
        with np.errstate(over="ignore"):
            cast: np.ndarray = np.array(flat, dtype=np.float64).astype(self._dtype)
        return cast if np.isfinite(cast).all() else None

    def _scalar(self, value: object, *, is_cell: bool, prefix: str = "") -> np.ndarray:
        try:
            element = self._element(_cast_cell(value, self.spec.dtype) if is_cell else value)
        except MisfitError as misfit:
            raise misfit.under(prefix) from None
        array = np.empty(self._scalar_tail(), dtype=self._dtype)
        array[...] = element
        return array

    def _walk(self, value: object, depth: int, shape: list[int | None], flat: list[object]) -> None:
        if depth == len(shape):
            flat.append(self._element(value))
            return
        expected = shape[depth]
        if not isinstance(value, list):
            raise MisfitError(
                f"expected a list{f' of {expected} values' if expected else ''}, got {kind_of(value)}"
            )
        if not value or expected not in (None, len(value)):
            raise MisfitError(f"expected {expected or 'at least 1'} values, got {len(value)}")
        shape[depth] = len(value)
        if depth == len(shape) - 1 and (leaves := self._cast(value)) is not None:
            flat.extend(leaves)
            return
        index = 0
        try:
            for index, child in enumerate(value):  # noqa: B007 - read when a child does not fit
                self._walk(child, depth + 1, shape, flat)
        except MisfitError as misfit:
            raise misfit.under(f"[{index}]") from None

    def _element(self, value: object) -> object:
        """One element, in the type that the array will hold."""
        dtype = self.spec.dtype
        if dtype == STRING:
            return _text(value)
        if dtype == "bool":
            if not isinstance(value, bool):
                raise MisfitError(f"expected true or false, got {kind_of(value)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MisfitError(f"expected a number, got {kind_of(value)}")
        return _whole(value, dtype) if dtype in INTEGERS else _real(value, self._dtype)

    def _from_base64(self, value: Mapping[str, object]) -> np.ndarray:
        """`{"b64": …}`: the row's little-endian bytes in row order."""
        text = value.get("b64")
        if len(value) != 1 or not isinstance(text, str) or self.spec.dtype == STRING:
            wanted = "a string" if self.spec.dtype == STRING else f'{self._wanted()} or {{"b64": "…"}}'
            raise MisfitError(f"expected {wanted}, got an object")
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raise MisfitError("is not valid base64", ".b64") from None
        array = np.frombuffer(raw, dtype=np.uint8)
        size, shape = self._row_size()
        if len(raw) == 0 or len(raw) % size or (None not in self.spec.row_shape and len(raw) != size):
            raise MisfitError(f"expected {size} bytes of {self.spec.dtype}, got {len(raw)}", ".b64")
        if self.spec.dtype == "bool" and array.max() > 1:
            raise MisfitError("expected bytes of 0 and 1", ".b64")
        row: np.ndarray = array.view(self._dtype.newbyteorder("<")).astype(self._dtype).reshape(shape)
        if self.spec.dtype in FLOATS and not np.isfinite(row).all():
            raise MisfitError("holds NaN or an infinite number", ".b64")
        return row

    def _wanted(self) -> str:
        if self._shape:
            return "a list"
        return "true or false" if self.spec.dtype == "bool" else "a number"

    def _row_size(self) -> tuple[int, list[int]]:
        """Bytes of a row (of one step along the open axis, if there is one), and the shape with -1 for that axis."""
        if self.spec.row_shape.count(None) > 1:
            raise MisfitError("base64 needs a shape with at most one open length; send nested lists")
        known = [length for length in self.spec.row_shape if length is not None]
        shape = [-1 if length is None else length for length in self.spec.row_shape]
        return int(np.prod(known, dtype=np.int64)) * self._dtype.itemsize, shape


def _allowed_types(dtype: str) -> set[type]:
    if dtype in FLOATS:
        return {int, float}
    return {int} if dtype in INTEGERS else {bool} if dtype == "bool" else {str}


def _common_length(level: Sequence[Any]) -> int | None:
    """The length that all lists of a level have; None if they differ or one is no list."""
    if set(map(type, level)) != {list}:
        return None
    lengths = set(map(len, level))
    return lengths.pop() if len(lengths) == 1 else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MisfitError(f"expected a string, got {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError("is not valid Unicode: it holds half of a surrogate pair") from None
    return value


def _real(value: float, dtype: np.dtype) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise MisfitError(f"is out of the range of {dtype.name}") from None
    if math.isnan(number):
        raise MisfitError("is NaN; send a finite number")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.float64(number).astype(dtype)):
            raise MisfitError(f"is out of the range of {dtype.name}")
    return number


def _whole(value: float, dtype: str) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise MisfitError(f"expected a whole number for {dtype}, got a fraction or a number without end")
    number = int(value)
    bounds = np.iinfo(dtype)
    if not bounds.min <= number <= bounds.max:
        raise MisfitError(f"is out of the range of {dtype} ({bounds.min} to {bounds.max})")
    return number


def _cast_cell(value: object, dtype: str) -> object:
    """A CSV cell's text as the JSON value it stands for."""
    if not isinstance(value, str) or dtype == STRING:
        return value
    cell = value.strip()
    if not cell:
        raise MisfitError("is empty")
    if dtype == "bool":
        if cell.lower() not in _BOOLEAN_CELLS:
            raise MisfitError("expected true or false")
        return _BOOLEAN_CELLS[cell.lower()]
    if len(cell) > _MAX_CELL_LENGTH or not _FLOAT_CELL.fullmatch(cell):
        raise MisfitError("expected a number")
    return int(cell) if cell.lstrip("+-").isdigit() else float(cell)


def _cast_numbers(cells: list[str], dtype: str) -> list[Any] | None:
    """All cells as numbers, None if one is none: `_cast_cell` at speed."""
    if dtype not in FLOATS | INTEGERS:
        return None
    stripped = list(map(str.strip, cells))
    if not all(map(_FLOAT_CELL.fullmatch, stripped)):
        return None
    try:
        return list(map(float if dtype in FLOATS else int, stripped))
    except ValueError:  # "3.0" for an integer, or thousands of digits: one by one then
        return None


def _parse_cell(cell: str) -> object:
    """A CSV cell that stands for a whole tensor holds JSON: `[[1, 2], [3, 4]]`."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        raise MisfitError("expected a JSON list of numbers in the cell") from None
