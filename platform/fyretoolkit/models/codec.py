"""JSON items to arrays and arrays to JSON results: the two ends of every prediction, online and batch alike.

Decoding is two-speed. A list of well-formed items is converted by numpy at once; only when that declines is each item
looked at by itself, to find which ones are bad and to keep the good. So a bad item never harms its neighbour, and a
good one never pays for the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from fyretoolkit.models.readers import Arrays, reader_for
from fyretoolkit.models.results import Result, encode_results
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.models.tensors import MisfitError


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item has no result.

    `index` is its place among the items given; `path` leads from the item to the value (`.mean_radius`, `[2][0]`,
    empty for the item itself), so a caller prefixes `inputs[3]`. `code` is one of the catalogue.
    """

    index: int
    path: str
    message: str
    code: str = "invalid_input"
    is_shape_conflict: bool = False
    """The item is right by itself, but of another shape than those before it: decode it in a call of its own."""


@dataclass(slots=True)
class Decoded:
    """Input arrays over the good items.

    Row i of each array is item `kept[i]`; every other item has an error. `arrays` is empty if no item was good.
    """

    arrays: Arrays = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)


class Codec:
    """Both ends of one model. Thread-safe; holds no ONNX session."""

    def __init__(self, spec: ModelSpec, tokenizer_json: str | None = None) -> None:
        """`tokenizer_json`: the text of the package's tokenizer.json, needed if `spec.tokenizer` is set.

        Raises:
            PlatformError: `invalid_package`, the tokenizer is missing or broken.
        """
        self.spec = spec
        self._reader = reader_for(spec, tokenizer_json)
        self.input_names = self._reader.names
        """The names an item given as an object may hold: a CSV's columns."""
        self._lists = {output.name for output in spec.signature.outputs if output.row_shape == (None,)}

    def decode(
        self, items: Sequence[object], cells_are_text: bool = False, has_booleans: bool = True
    ) -> Decoded:
        """The input arrays of all items that fit, and an error for each that does not.

        `cells_are_text`: values come from CSV cells, and text is cast to what the signature asks for. `has_booleans`
        is False where the caller has seen that the items' JSON holds neither true nor false: then a list of numbers is
        converted without a look at each one's type, for Python's floats take a boolean for a number and nothing else.
        """
        if not items:
            return Decoded()
        arrays = self._reader.read_all(items, are_cells=cells_are_text, has_booleans=has_booleans)
        if arrays is not None:
            return Decoded(arrays, list(range(len(items))))
        return self._decode_each(items, cells_are_text)

    def decode_all(
        self, items: Sequence[object], cells_are_text: bool = False, has_booleans: bool = True
    ) -> tuple[list[tuple[list[int], Arrays]], list[ItemError]]:
        """All items that fit, as (which items they are, their arrays) for each of their shapes, and the errors.

        The flags are those of `decode`.
        """
        calls: list[tuple[list[int], Arrays]] = []
        errors: list[ItemError] = []
        pending = list(range(len(items)))
        while pending:
            asked = [items[index] for index in pending]
            decoded = self.decode(asked, cells_are_text, has_booleans)
            errors += [
                replace(error, index=pending[error.index])
                for error in decoded.errors
                if not error.is_shape_conflict
            ]
            if decoded.kept:
                calls.append(([pending[index] for index in decoded.kept], decoded.arrays))
            pending = [pending[error.index] for error in decoded.errors if error.is_shape_conflict]
        return calls, errors

    def shape_of(self, arrays: Mapping[str, np.ndarray]) -> object:
        """Decoded arrays whose shapes are equal by `==` can be joined."""
        return self._reader.shape_of(arrays)

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
        """The rows of several decoded arrays of equal `shape_of` as one, in order."""
        return self._reader.join(parts)

    def trim(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The same rows without padding that none of them needs: one row becomes what it is decoded to alone."""
        return self._reader.trim(arrays)

    def render(self, outputs: Mapping[str, np.ndarray]) -> list[bytes]:
        """The JSON of each row's result.

        Raises:
            PlatformError: as `encode`.
        """
        return list(map(orjson.dumps, self.encode(outputs)))

    def encode(self, outputs: Mapping[str, np.ndarray]) -> list[Result]:
        """One JSON-ready result per row of the outputs.

        Raises:
            PlatformError: `signature_mismatch`, the outputs do not have one row for each input.
        """
        return encode_results(outputs, self.spec.outputs, lists=self._lists)

    def _decode_each(self, items: Sequence[object], cells_are_text: bool) -> Decoded:
        rows: list[Any] = []
        kept: list[int] = []
        errors: list[ItemError] = []
        shapes: object = None
        for index, item in enumerate(items):
            try:
                row = self._reader.read_item(item, is_cells=cells_are_text)
            except MisfitError as misfit:
                errors.append(ItemError(index, misfit.path, misfit.message))
                continue
            shapes = shapes or _shapes(row)
            if _shapes(row) == shapes:
                rows.append(row)
                kept.append(index)
            else:
                message = "has another shape than the inputs before it; send it in a call of its own"
                errors.append(ItemError(index, "", message, is_shape_conflict=True))
        return Decoded(self._reader.assemble(rows) if rows else {}, kept, errors)


def _shapes(row: object) -> object:
    """What must agree between the rows of one array."""
    return {name: array.shape for name, array in row.items()} if isinstance(row, dict) else True
