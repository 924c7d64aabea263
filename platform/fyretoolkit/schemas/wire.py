"""The two kinds of wire model: strict towards what callers send, plain for what they get.

The docstring below a field is its description in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """A request body or query: unknown fields and values of another type are errors, so a typo is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class EmptyRequest(RequestModel):
    """The body of an operation that takes no fields; it may be left out."""


class Resource(BaseModel):
    """An answer. Every field is there, whatever its value, unless `sometimes` says otherwise."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )

    def to_json(self) -> str:
        """The answer's text; the same object gives the same bytes."""
        return self.model_dump_json()


def sometimes(*names: str) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra` of an answer: these fields are left out when there is nothing to say, and never null."""

    def amend(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]
        for name in names:
            field = schema["properties"][name]
            (kind,) = (choice for choice in field.pop("anyOf") if choice != {"type": "null"})
            del field["default"]
            field |= kind

    return amend
