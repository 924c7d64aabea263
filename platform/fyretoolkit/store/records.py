"""Records to Redis hashes and back.

A field of text is stored as it is, so that scripts can compare it; anything else as JSON; None as an absent field.
The dataclass's annotations decide which is which, so a record is declared once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

R = TypeVar("R")


def _is_text(hint: object) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return all(_is_text(option) for option in get_args(hint) if option is not type(None))
    return isinstance(hint, type) and issubclass(hint, str | StrEnum)


@cache
def _text_fields(record_type: Any) -> frozenset[str]:
    return frozenset(name for name, hint in get_type_hints(record_type).items() if _is_text(hint))


@cache
def _adapter(record_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record_type)


def to_hash(record: object) -> dict[str, str]:
    """The hash of a dataclass instance."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return encode_fields(type(record), values)


def encode_fields(record_type: type, values: Mapping[str, object]) -> dict[str, str]:
    """Some fields of a record, encoded for its hash. None is left out."""
    text = _text_fields(record_type)
    return {
        name: str(value) if name in text else json.dumps(value, separators=(",", ":"))
        for name, value in values.items()
        if value is not None
    }


def from_hash(record_type: type[R], stored: Mapping[str, str]) -> R:
    """The record in a hash; unknown fields of a newer version are ignored."""
    text = _text_fields(cast(Any, record_type))
    known = {field.name for field in fields(record_type)}  # type: ignore[arg-type]
    values = {
        name: value if name in text else json.loads(value) for name, value in stored.items() if name in known
    }
    record: R = _adapter(cast(Any, record_type)).validate_python(values)
    return record
