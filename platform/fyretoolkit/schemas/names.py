"""Names that callers give to things: shown in lists and terminals, so without control characters, and not blank."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$"
"""One character at least that is no blank."""


def _is_printable(name: str) -> str:
    if not re.fullmatch(_PRINTABLE, name):
        raise ValueError("write it in one line, without control characters, and not of blanks alone")
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
