"""Fields that several request bodies share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fyretoolkit.core.checksums import PATTERN, is_sha256
from fyretoolkit.core.ids import SLUG, is_slug


def _check_slug(value: str) -> str:
    if not is_slug(value):
        raise ValueError(
            "use 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
        )
    return value


def _check_sha256(value: str) -> str:
    if not is_sha256(value):
        raise ValueError("write a sha256 in 64 hexadecimal digits, as sha256sum prints it")
    return value.lower()


def left_out() -> Any:
    """The default of a field that may be left out but not null; whoever reads it asks `model_fields_set` first."""
    return None


IdempotencyKey = Annotated[
    str, Field(min_length=1, max_length=255, description="The same key gives the same answer for 24 h.")
]
# The pattern is for the document alone: pydantic would name it in its message instead of saying what is allowed.
ModelId = Annotated[str, AfterValidator(_check_slug), Field(json_schema_extra={"pattern": SLUG})]
SourceUri = Annotated[str, Field(min_length=1, max_length=8192)]
_Sha256 = Annotated[str, AfterValidator(_check_sha256), Field(json_schema_extra={"pattern": PATTERN})]
SourceSha256 = Annotated[
    _Sha256 | None,
    Field(
        description="Of the file at model_uri, refused if it has another; of a registered model, its own sha256."
    ),
]
