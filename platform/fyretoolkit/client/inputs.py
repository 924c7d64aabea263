"""Inputs on their way into JSON: lists, numpy arrays, lists of arrays, and whatever has `tolist` (tensors, series).

numpy is never imported here: orjson reads its arrays by their memory, and only those that it cannot read (another
byte order, not contiguous) are turned into lists first. A `NaN` becomes null, which the platform refuses by its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import orjson


class SupportsToList(Protocol):
    """An array: numpy's, or anything else that becomes nested lists."""

    def tolist(self) -> Any:
        """Its values as nested lists."""
        ...


Inputs: TypeAlias = Sequence[Any] | SupportsToList
"""One item for each prediction: texts, objects of named features, nested numbers or arrays; or one array of all."""


def dump(body: object) -> bytes:
    """The JSON of a body that may hold arrays.

    Raises:
        TypeError: something in it is neither JSON nor an array.
    """
    try:
        return orjson.dumps(body, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        pass  # perhaps an array that it cannot read, such as one of another byte order
    try:
        return orjson.dumps(body, default=_as_list)
    except orjson.JSONEncodeError as error:
        raise TypeError(f"This cannot be sent as JSON: {error}.") from error


def check_inputs(inputs: Inputs) -> Inputs:
    """The inputs, if they are several.

    Raises:
        TypeError: a text, bytes or an object, which is one input and not a list of them.
    """
    if isinstance(inputs, str | bytes | bytearray | dict):
        raise TypeError("inputs is a list with one item for each prediction: put this one into a list.")
    return inputs


def _as_list(value: object) -> Any:
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return list(value)
        raise TypeError(f"{type(value).__name__} is neither JSON nor an array")
    return to_list()
