"""The Range header: which bytes of a file a caller asks for (RFC 9110, 14). What is no range of bytes is ignored."""

from __future__ import annotations

import re

from fyretoolkit.api.requests import Headers, header_values

_BYTE_RANGE = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})")


def is_one_range(value: bytes) -> bool:
    """Whether the header is one valid range (RFC 9110, 14.1.1); it may still lie beyond the end of the file."""
    return len(_bounds(value)) == 1


def asked_range(headers: Headers, size: int) -> range | None:
    """The one range of bytes that is asked for, empty if it lies beyond `size`; None: the whole file.

    Several ranges are answered with the whole file, as RFC 9110, 14.2 allows, and so is If-Range: what grows has no
    validator.
    """
    given = header_values(headers, b"range")
    bounds = _bounds(given[0]) if len(given) == 1 else []
    if len(bounds) != 1 or header_values(headers, b"if-range"):
        return None
    first, last = bounds[0]
    if first is None:
        return range(max(0, size - (last or 0)), size)
    return range(first, size if last is None else min(last + 1, size))


def _bounds(value: bytes) -> list[tuple[int | None, int | None]]:
    """(first, last) of each range, a suffix without a first; nothing if one of them is not valid.

    Split by hand: one regular expression for the list would try every way to share out its spaces.
    """
    unit, _, listed = value.partition(b"=")
    found = [_BYTE_RANGE.fullmatch(each.strip(b" \t")) for each in listed.split(b",") if each.strip(b" \t")]
    if unit.lower() != b"bytes" or not all(map(_is_ordered, found)):
        return []
    return [(_number(each[1]), _number(each[2])) for each in found if each]


def _number(digits: bytes) -> int | None:
    return int(digits) if digits else None


def _is_ordered(bounds: re.Match[bytes] | None) -> bool:
    if bounds is None or not (bounds[1] or bounds[2]):
        return False
    return not (bounds[1] and bounds[2]) or int(bounds[1]) <= int(bounds[2])
