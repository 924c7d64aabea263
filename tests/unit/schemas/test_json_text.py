"""Bodies of which a part would be lost: names that come twice, integers beyond 64 bits."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.json_text import check_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _paths(body: bytes) -> list[str]:
    try:
        check_text(body)
    except PlatformError as error:
        fields: Any = (error.details or {})["fields"]
        return [field["path"] for field in fields]
    return []


@given(JSON)
def test_what_is_passed_is_what_the_parser_reads(content: object) -> None:
    """Whatever the parser of bodies would change is refused, and nothing else."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:  # lone surrogates
        return
    is_kept = json.dumps(parsed) == json.dumps(content)
    assert (not _paths(body)) is is_kept


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"a": 1, "a": 1}', ["a"]),
        (b'{"a": 1, "a": 2, "a": 3}', ["a"]),
        (b'{"m": {"x": [1, {"b": 1, "b": 2}]}}', ["m.x[1].b"]),
        (b'{"a": 1, "\\u0061": 1}', ["a"]),
        (b'{"a": {"b": 1}, "c": {"b": 1}}', []),
        (b'{"m": {"n": 18446744073709551615, "o": -9223372036854775808}}', []),
        (b'{"m": {"n": 18446744073709551616, "o": [-9223372036854775809]}}', ["m.n", "m.o[0]"]),
        (b'{"m": ' + b"9" * 5000 + b"}", ["m"]),
        (b'{"m": 1e30}', []),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b', "a": 1}', ["body"]),
    ],
)
def test_what_would_be_lost_is_named(body: bytes, paths: list[str]) -> None:
    assert _paths(body) == paths
