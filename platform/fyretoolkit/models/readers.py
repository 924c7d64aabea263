"""Items of a request to the graph's input arrays: one reader for each way in which items map onto inputs.

A reader answers two questions. `read_all`: the arrays of a list of items that are all plainly right, at numpy's speed,
or None. `read_item` and `assemble`: one item checked by itself, and the arrays of those that passed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.manifest import TokenizerSettings
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.models.tensors import MisfitError, TensorReader, kind_of

Arrays = dict[str, np.ndarray]
_LISTED_NAMES = 5


class Reader(Protocol):
    """What the codec asks of a reader. `Row` is the reader's own form of an item that passed."""

    names: tuple[str, ...]
    """The names that an item given as an object may hold: a CSV's columns."""

    def read_all(
        self, items: Sequence[object], *, are_cells: bool, has_booleans: bool = True
    ) -> Arrays | None: ...

    def read_item(self, item: object, *, is_cells: bool) -> Any: ...

    def assemble(self, rows: Sequence[Any]) -> Arrays: ...

    def shape_of(self, arrays: Mapping[str, np.ndarray]) -> object: ...

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays: ...

    def trim(self, arrays: Mapping[str, np.ndarray]) -> Arrays: ...


class Stacked:
    """Arrays whose rows can be joined if they agree in every axis but the first."""

    def shape_of(self, arrays: Mapping[str, np.ndarray]) -> object:
        """What must be equal between arrays that are joined."""
        return [array.shape[1:] for array in arrays.values()]

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
        """All rows of all parts, in order."""
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def trim(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Nothing was added to any row."""
        return dict(arrays)


class NamedTensors(Stacked):
    """Each graph input by its name; where there is one input alone, the item may also be the bare value."""

    def __init__(self, signature: Signature) -> None:
        self._readers = {spec.name: TensorReader(spec) for spec in signature.inputs}
        self.names = tuple(self._readers)
        self._only = self.names[0] if len(self.names) == 1 else None

    def read_all(
        self, items: Sequence[object], *, are_cells: bool, has_booleans: bool = True
    ) -> Arrays | None:
        if self._only is not None and set(map(type, items)) != {dict}:
            array = self._read_rows(self._only, items, are_cells, has_booleans)
            return None if array is None else {self._only: array}
        arrays: Arrays = {}
        rows = _plain_objects(items, len(self.names))
        for name in self.names if rows is not None else ():
            try:
                values = list(map(itemgetter(name), rows or ()))
                array = self._read_rows(name, values, are_cells, has_booleans)
            except KeyError:
                return None
            if array is None:
                return None
            arrays[name] = array
        return arrays or None

    def read_item(self, item: object, *, is_cells: bool) -> Arrays:
        if self._only is not None and not (isinstance(item, Mapping) and self._only in item):
            if isinstance(item, Mapping) and "b64" not in item:
                raise _unknown_names(item, self.names)
            return {self._only: self._readers[self._only].read_row(item, is_cell=is_cells)}
        row = _named_values(item, self.names)
        return {name: _read(self._readers[name], row[name], name, is_cells) for name in self.names}

    def assemble(self, rows: Sequence[Arrays]) -> Arrays:
        return {name: np.stack([row[name] for row in rows]) for name in self.names}

    def _read_rows(
        self, name: str, values: Sequence[object], are_cells: bool, has_booleans: bool
    ) -> np.ndarray | None:
        reader = self._readers[name]
        are_cells = are_cells and reader.spec.is_scalar_row
        return reader.read_rows(values, are_cells=are_cells, has_booleans=has_booleans)


class FeatureVector(Stacked):
    """An object of named numbers, laid out as the columns of one tensor in the order of `features`."""

    def __init__(self, spec: TensorSpec, features: tuple[str, ...]) -> None:
        self.names = features
        self._input = spec.name
        self._has_axis = len(spec.shape) > 1
        self._pick = itemgetter(*features)
        self._row = TensorReader(TensorSpec(spec.name, spec.dtype, (None, len(features))))
        self._cell = TensorReader(TensorSpec(spec.name, spec.dtype, (None,)))

    def read_all(
        self, items: Sequence[object], *, are_cells: bool, has_booleans: bool = True
    ) -> Arrays | None:
        rows = _plain_objects(items, len(self.names))
        if rows is None:
            return None
        try:
            picked = list(map(self._pick, rows))
        except KeyError:
            return None
        if len(self.names) > 1:
            picked = list(map(list, picked))
        array = self._row.read_rows(picked, are_cells=are_cells, has_booleans=has_booleans)
        return None if array is None else {self._input: array if self._has_axis else array[:, 0]}

    def read_item(self, item: object, *, is_cells: bool) -> np.ndarray:
        if isinstance(item, Mapping) and set(item) == {self._input} and self._input not in self.names:
            try:
                return self.read_item(item[self._input], is_cells=False)
            except MisfitError as misfit:
                raise misfit.under(f".{self._input}") from None
        row = _named_values(item, self.names)
        array = self._row.read_rows([[row[name] for name in self.names]], are_cells=is_cells)
        if array is not None and array.ndim > 1:
            row_array: np.ndarray = array[0]
            return row_array
        return np.stack([_read(self._cell, row[name], name, is_cells) for name in self.names])

    def assemble(self, rows: Sequence[np.ndarray]) -> Arrays:
        array = np.stack(rows)
        return {self._input: array if self._has_axis else array[:, 0]}


class TokenizedText:
    """A string through tokenizer.json to input_ids, attention_mask and token_type_ids, as far as the graph has them."""

    def __init__(self, signature: Signature, settings: TokenizerSettings, tokenizer_json: str) -> None:
        self.names: tuple[str, ...] = ("text",)
        self._inputs = signature.inputs
        fixed = next((spec.shape[1] for spec in signature.inputs if spec.shape[1] is not None), None)
        self._fixed_length = fixed or (settings.max_length if settings.padding == "max_length" else None)
        self._text = TensorReader(TensorSpec("text", "string", (None,)))
        max_length = min(settings.max_length, fixed or settings.max_length)
        self._tokenizer, self._padding = _load_tokenizer(tokenizer_json, max_length)

    def read_all(
        self,
        items: Sequence[object],
        *,
        are_cells: bool,
        has_booleans: bool = True,  # noqa: ARG002 - texts
    ) -> Arrays | None:
        texts = self._text.read_rows(items, are_cells=are_cells)
        return None if texts is None else self.assemble(texts.tolist())

    def read_item(self, item: object, *, is_cells: bool) -> str:
        text = _named_values(item, self.names)["text"] if isinstance(item, Mapping) else item
        row = _read(self._text, text, "text" if isinstance(item, Mapping) else "", is_cells)
        return str(row.item())

    def assemble(self, rows: Sequence[str]) -> Arrays:
        encodings = self._tokenizer.encode_batch(list(rows))
        length = self._fixed_length or max(1, *(len(encoding.ids) for encoding in encodings))
        columns = {
            "input_ids": ([encoding.ids for encoding in encodings], self._padding["pad_id"]),
            "attention_mask": ([encoding.attention_mask for encoding in encodings], 0),
            "token_type_ids": ([encoding.type_ids for encoding in encodings], self._padding["pad_type_id"]),
        }
        is_left = self._padding["direction"] == "left"
        return {
            spec.name: _padded(*columns[spec.name], length, spec.dtype, is_left=is_left)
            for spec in self._inputs
        }

    def shape_of(self, arrays: Mapping[str, np.ndarray]) -> object:  # noqa: ARG002 - what the protocol gives
        """Padding makes all texts one shape."""
        return True

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
        """All rows of all parts, in order, padded to the longest."""
        fills = {"input_ids": self._padding["pad_id"], "token_type_ids": self._padding["pad_type_id"]}
        is_left = self._padding["direction"] == "left"
        length = max(array.shape[1] for part in parts for array in part.values())
        return {
            name: np.concatenate(
                [_widened(part[name], length, fills.get(name, 0), is_left=is_left) for part in parts]
            )
            for name in parts[0]
        }

    def trim(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Without the columns that are padding in every row, as the mask tells, else a padding token.

        A tokenizer without one pads a graph that takes no mask with an ordinary token: there all columns are kept.
        """
        mask = arrays.get("attention_mask")
        if mask is None and self._padding["is_token"]:
            mask = arrays["input_ids"] != self._padding["pad_id"]
        if mask is None or self._fixed_length:
            return dict(arrays)
        used = np.flatnonzero(mask.any(axis=0))
        if self._padding["direction"] == "left":
            start = int(used[0]) if used.size else -1
            return {name: array[:, start:] for name, array in arrays.items()}
        end = int(used[-1]) + 1 if used.size else 1
        return {name: array[:, :end] for name, array in arrays.items()}


def reader_for(spec: ModelSpec, tokenizer_json: str | None) -> Reader:
    """The reader of the spec's inputs.

    Raises:
        PlatformError: `invalid_package`, the tokenizer is missing or broken.
    """
    if spec.tokenizer is not None:
        if tokenizer_json is None:
            raise PlatformError(
                "invalid_package", "The model takes tokens, but its package has no tokenizer.json."
            )
        return TokenizedText(spec.signature, spec.tokenizer, tokenizer_json)
    if spec.features is not None:
        return FeatureVector(spec.signature.inputs[0], spec.features)
    return NamedTensors(spec.signature)


def _plain_objects(items: Sequence[object], size: int) -> Sequence[Mapping[str, object]] | None:
    """The items, if each is an object of exactly `size` members."""
    if set(map(type, items)) != {dict} or set(map(len, items)) != {size}:  # type: ignore[arg-type]
        return None
    return items  # type: ignore[return-value]


def _named_values(item: object, names: tuple[str, ...]) -> Mapping[str, object]:
    """The item as an object that holds exactly `names`."""
    if not isinstance(item, Mapping):
        raise MisfitError(f"expected an object with {_listed(names)}, got {kind_of(item)}")
    if len(item) != len(names) or any(name not in item for name in names):
        if any(name not in names for name in item):
            raise _unknown_names(item, names)
        missing = [name for name in names if name not in item]
        raise MisfitError(
            "is missing" + (f", and so are {_listed(missing[1:])}" if missing[1:] else ""), f".{missing[0]}"
        )
    return item


def _unknown_names(item: Mapping[Any, object], names: tuple[str, ...]) -> MisfitError:
    unknown = [str(name) for name in item if name not in names]
    if not unknown:
        return MisfitError(f"expected an object with {_listed(names)}, got an empty one")
    others = f" (with {_listed(unknown[1:])})" if unknown[1:] else ""
    return MisfitError(f"is unknown{others}; expected {_listed(names)}", f".{unknown[0][:100]}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:_LISTED_NAMES])
    more = len(names) - _LISTED_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _read(reader: TensorReader, value: object, name: str, is_cell: bool) -> np.ndarray:
    try:
        return reader.read_row(value, is_cell=is_cell)
    except MisfitError as misfit:
        raise misfit.under(f".{name}" if name else "") from None


def _load_tokenizer(tokenizer_json: str, max_length: int) -> tuple[Any, dict[str, Any]]:
    """The tokenizer set to cut at `max_length`, and its own padding settings; padding itself is done here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        tokenizer.enable_truncation(max_length)
    except Exception as error:
        raise PlatformError(
            "invalid_package", f"tokenizer.json is not usable: {str(error)[:200]}."
        ) from error
    pad_id = _pad_id(tokenizer)
    padding = tokenizer.padding or {"pad_id": pad_id or 0, "pad_type_id": 0, "direction": "right"}
    is_token = tokenizer.padding is not None or pad_id is not None
    tokenizer.no_padding()
    return tokenizer, {**padding, "is_token": is_token}


def _pad_id(tokenizer: Any) -> int | None:
    ids = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
    return next((token_id for token_id in ids if token_id is not None), None)


def _padded(rows: list[list[int]], fill: int, length: int, dtype: str, *, is_left: bool) -> np.ndarray:
    array = np.full((len(rows), length), fill, dtype=dtype)
    for index, row in enumerate(rows):
        array[index, length - len(row) if is_left else 0 : length if is_left else len(row)] = row
    return array


def _widened(array: np.ndarray, length: int, fill: int, *, is_left: bool) -> np.ndarray:
    missing = length - array.shape[1]
    if not missing:
        return array
    return np.pad(array, ((0, 0), (missing, 0) if is_left else (0, missing)), constant_values=fill)
