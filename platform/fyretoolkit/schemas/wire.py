"""The two kinds of wire model: strict towards what callers send, plain for what they get."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RequestModel(BaseModel):
    """A request body or query: unknown fields and values of another type are errors, so a typo is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EmptyRequest(RequestModel):
    """The body of an operation that takes no fields; it may be left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class Resource(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """The answer's text; the same object gives the same bytes."""
        return self.model_dump_json()
