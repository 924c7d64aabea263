"""What the parser of bodies passes over in silence: names that come twice, and integers that it turns into floats.

Only the text shows them, so the standard library reads it again. Not for predictions: their bodies are megabytes of
numbers on the hottest path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fyretoolkit.schemas.errors import invalid_field, invalid_request

_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_MAX_CHARS = 20
"""Of an integer within these bounds, leading zeros being no JSON."""

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Lost:
    """In the place of a value that would not arrive as it was sent."""

    message: str


def check_text(body: bytes) -> None:
    """Refuses a JSON body of which something would be lost.

    Raises:
        PlatformError: `invalid_request`, naming the fields.
    """
    lost: list[_Lost] = []

    def note(message: str) -> _Lost:
        lost.append(_Lost(message))
        return lost[-1]

    def integer(text: str) -> int | _Lost:
        if len(text) <= _MAX_CHARS and _LEAST <= int(text) <= _MOST:
            return int(text)
        return note("This integer has more than 64 bits. Send it as a string.")

    def named(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            found[name] = note("This field comes twice. Send it once.") if name in found else value
        return found

    try:
        content = json.loads(body.decode(), object_pairs_hook=named, parse_int=integer)
        if lost:
            raise invalid_request([_described(*each) for each in _found(content, ())])
    except RecursionError as error:  # within a field that comes twice: what was read is bounded by its schema
        raise invalid_field("body", "It is nested too deeply. Send fewer levels.") from error


def _found(value: object, location: Location) -> Iterator[tuple[Location, _Lost]]:
    if isinstance(value, _Lost):
        yield location, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _found(each, (*location, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _found(each, (*location, index))


def _described(location: Location, lost: _Lost) -> dict[str, Any]:
    """As pydantic describes what it finds."""
    return {"type": "lost", "loc": location, "msg": lost.message}
