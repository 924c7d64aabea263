"""The Range header, read by RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.api.ranges import asked_range, is_one_range


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (b"bytes=0-499", 10_000, range(500)),  # these five: RFC 9110, 14.1.2
        (b"bytes=500-999", 10_000, range(500, 1000)),
        (b"bytes=-500", 10_000, range(9500, 10_000)),
        (b"bytes=9500-", 10_000, range(9500, 10_000)),
        (b"bytes=0-0,-1", 10_000, None),
        (b"bytes=0-99999", 10, range(10)),
        (b"bytes=-99", 10, range(10)),
        (b"BYTES = 1-2", 10, None),
        (b"Bytes= 1-2 ,", 10, range(1, 3)),
        (b"bytes=10-", 10, range(0)),
        (b"bytes=-0", 10, range(0)),
        (b"bytes=0-", 0, range(0)),
        (b"bytes=-5", 0, range(0)),
        (b"bytes=2-1", 10, None),
        (b"bytes=", 10, None),
        (b"lines=0-1", 10, None),
    ],
)
def test_ranges_are_read_as_the_rfc_says(value: bytes, size: int, expected: range | None):
    """None: all of it; an empty range: nothing that is there."""
    assert asked_range([(b"range", value)], size) == expected


@given(st.binary(max_size=40) | st.from_regex(rb"bytes=[0-9]{0,25}-[0-9]{0,25}"), st.integers(0, 10**12))
def test_any_header_is_understood_or_ignored(value: bytes, size: int):
    """Never an exception, never a byte that is not there."""
    found = asked_range([(b"range", value)], size)
    assert found is None or not found or (is_one_range(value) and 0 <= found[0] <= found[-1] < size)


def test_two_headers_and_a_condition_give_all_of_it():
    """What is still written has no validator that If-Range could name."""
    one = (b"range", b"bytes=0-1")
    assert asked_range([one, one], 10) is None
    assert asked_range([one, (b"if-range", b'"x"')], 10) is None
    assert asked_range([], 10) is None
