"""From a record's fields to the item that the model's signature wants, and the row's own id beside it.

A model takes either one value (text, a tensor) or named features. Keys that the signature does not name are ignored
here, unlike in `POST /predict`: files carry words, dates and ids that belong to their owner.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from batch.cells import CellError

ID_FIELDS = ("id", "custom_id")

RowId = str | int
_ID_TYPES = (str, int)


@dataclass(frozen=True, slots=True)
class RowShape:
    """What the model takes of a row: one value found under the first of `names`, or all of `names` as an object."""

    names: tuple[str, ...]
    is_single: bool


class FieldError(ValueError):
    """The record does not hold what the model needs; the text names the field, without a full stop."""


def row_id(fields: Mapping[str, object]) -> RowId | None:
    """The row's own id: `id`, else `custom_id`, if it is text or an integer."""
    for name in ID_FIELDS:
        value = fields.get(name)
        if value != "" and type(value) in _ID_TYPES:  # not of a subclass: bool is one of int
            return cast(RowId, value)
    return None


def select(fields: Mapping[str, object], shape: RowShape) -> object:
    """The model's item among a record's fields.

    Raises:
        FieldError: a field is missing.
    """
    if shape.is_single:
        return fields[single_field(fields, shape)]
    try:
        return {name: fields[name] for name in shape.names}
    except KeyError:
        missing = [name for name in shape.names if name not in fields]
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FieldError(f"the field {missing[0]!r}{others} is missing") from None


def single_field(fields: Container[str], shape: RowShape) -> str:
    """The field that holds the one value.

    Raises:
        FieldError: there is none.
    """
    for name in shape.names:
        if name in fields:
            return name
    raise FieldError(f"the field {shape.names[0]!r} is missing")


def with_only_field(shape: RowShape, first: Iterable[str]) -> RowShape:
    """The shape, where a file whose first row has one field beside the id may call that field what it likes.

    It is a property of the file, not of a row: a row that merely lacks the model's field must not have another one
    taken for it.
    """
    names = [name for name in first if name not in ID_FIELDS]
    if not shape.is_single or len(names) != 1 or names[0] in shape.names:
        return shape
    return RowShape((*shape.names, names[0]), is_single=True)


class CsvMapping:
    """Where the model's cells stand in each row of one CSV file; found once, from the header."""

    def __init__(self, columns: tuple[str, ...], shape: RowShape) -> None:
        shape = with_only_field(shape, columns)
        self._columns = columns
        positions = {name: position for position, name in enumerate(columns)}
        self._ids = [positions[name] for name in ID_FIELDS if name in positions]
        self._error: FieldError | None = None
        self._single: int | None = None
        self._named: list[tuple[str, int]] = []
        try:
            if shape.is_single:
                self._single = positions[single_field(positions, shape)]
            else:
                select(positions, shape)
                self._named = [(name, positions[name]) for name in shape.names]
        except FieldError as error:
            self._error = error

    def row(self, cells: list[str]) -> tuple[RowId | None, object]:
        """The row's id and the model's item, its cells still text.

        Raises:
            CellError: the row has more or fewer cells than the header.
            FieldError: the header lacks a column; every row fails alike.
        """
        if len(cells) != len(self._columns):
            raise CellError(f"it has {len(cells)} cells and the header has {len(self._columns)}")
        if self._error is not None:
            raise self._error
        item = (
            cells[self._single]
            if self._single is not None
            else {name: cells[position] for name, position in self._named}
        )
        return next((cells[position] for position in self._ids if cells[position]), None), item

    def identify(self, cells: list[str]) -> RowId | None:
        """The id of a row whose cells are as many as the header's."""
        if len(cells) != len(self._columns):
            return None
        return next((cells[position] for position in self._ids if cells[position]), None)
