"""Identifiers: a ULID behind a prefix that names the resource (`dep_01J…`).

ULIDs sort by creation time, so a cursor still positions after its object was deleted. UUIDv7 would do as well but is
longer in text and not in Python 3.11. Source: github.com/ulid/spec.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_ULID = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
SLUG = "^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
"""What a model id looks like, as a regular expression of Python and of JSON Schema."""
_SLUG = re.compile(SLUG)

_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS = range(120, -1, -10)
"""A ULID is thirteen pairs of digits."""

_lock = threading.Lock()
_last: int = 0
_head: tuple[int, str] = (-1, "")
"""All pairs but the last of the newest identifier: what follow it within a millisecond nearly always share them."""


def _encode(value: int) -> str:
    global _head  # noqa: PLW0603 - as below
    rest = value >> 10
    if _head[0] != rest:
        _head = rest, "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS[:-1]])
    return _head[1] + _PAIRS[value & 1023]


def new_id(prefix: str) -> str:
    """A new identifier `<prefix>_<ULID>`, greater than every one made before in this process.

    Those of one millisecond count up from the first, which is random, as the specification has it.
    """
    global _last  # noqa: PLW0603 - one monotonic sequence a process is what the ULID specification asks for
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        _last = _last + 1 if now_ms <= _last >> 80 else now_ms << 80 | secrets.randbits(80)
        return f"{prefix}_{_encode(_last)}"


def _begin_anew() -> None:
    """A forked process must not count up from where its parent is."""
    global _last  # noqa: PLW0603 - as above
    _last = 0


os.register_at_fork(after_in_child=_begin_anew)


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` could have been made by `new_id(prefix)`."""
    head, _, ulid = text.partition("_")
    return head == prefix and _ULID.fullmatch(ulid) is not None


def made_at(identifier: str) -> float:
    """When `new_id` made it (Unix seconds, to the millisecond)."""
    _, _, ulid = identifier.partition("_")
    milliseconds = 0
    for digit in ulid[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(digit)
    return milliseconds / 1000


def id_pattern(prefix: str, *others: str) -> str:
    """A regular expression, also of JSON Schema, for what `is_id` takes; `others` are fixed ids beside them."""
    made = f"{prefix}_{_ULID.pattern[1:-1]}"
    return f"^({'|'.join((made, *others))})$" if others else f"^{made}$"


def is_slug(text: str) -> bool:
    """Whether `text` may be a model id: 1 to 64 of a-z, 0-9, `.`, `_`, `-`, a letter or digit at both ends."""
    return _SLUG.fullmatch(text) is not None


def slugify(text: str) -> str:
    """The model id nearest to a file name (`Digits Forest` → `digits-forest`); empty if nothing is left of it."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).replace("_", "-").strip("-._")[:64].strip("-._")
