"""Names that callers give to things: shown in lists and terminals, so without control characters."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"


def _is_printable(name: str) -> str:
    if not re.fullmatch(_PRINTABLE, name):
        raise ValueError("write it in one line, without control characters")
    return name


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        description="For people: shown in lists.",
        json_schema_extra={"pattern": _PRINTABLE},
    ),
    AfterValidator(_is_printable),
]
