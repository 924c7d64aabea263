"""What the parser of bodies passes over in silence: names that come twice, and integers that it turns into floats.

Only the text shows them, so it is read again, by the standard library. Not for predictions: their bodies are megabytes
of numbers on the hottest path.
"""

from __future__ import annotations

import json
from typing import Any

from fyretoolkit.schemas.errors import invalid_field

_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_MAX_DIGITS = 20


class _LossError(ValueError):
    """Something of the text would be lost."""


def check_text(body: bytes) -> None:
    """Refuses a JSON body of which a part would be lost.

    Raises:
        PlatformError: `invalid_request`, naming the field.
    """
    try:
        json.loads(body.decode(), object_pairs_hook=_object, parse_int=_integer)
    except RecursionError as error:
        raise invalid_field("body", "It is nested too deeply. Send fewer levels.") from error
