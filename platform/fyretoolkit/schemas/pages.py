"""Pages of a list: the query that asks for one and the envelope that holds it."""

from __future__ import annotations

import re
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, field_validator

from fyretoolkit.schemas.wire import RequestModel, Resource

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

_DIGITS = re.compile("[0-9]{1,9}")

T = TypeVar("T")


class PageQuery(RequestModel):
    """`?limit=&starting_after=` of every list. Query values are text, so numbers are read from it."""

    model_config = ConfigDict(strict=False)

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most objects to return.")] = (
        DEFAULT_LIMIT
    )
    starting_after: Annotated[
        str | None, Field(description="The id of the last object of the page before.")
    ] = None

    @field_validator("limit", mode="before")
    @classmethod
    def _is_digits(cls, value: object) -> object:
        """Pydantic reads 5.0, 1_0 and +5 as numbers too."""
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            raise ValueError("write a whole number in digits")
        return value


class Page(Resource, Generic[T]):
    """Newest first. `has_more`: there are older ones."""

    object: Literal["list"] = "list"
    """Always `list`."""
    data: list[T]
    """The objects, newest first."""
    has_more: bool
    """Whether there are older ones."""
