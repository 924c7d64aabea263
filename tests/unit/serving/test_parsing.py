"""Bodies of predictions: whatever comes in, a request or a typed refusal comes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import parse_request, render_error
from fyretoolkit.schemas.metadata import MAX_DEPTH
from fyretoolkit.schemas.predictions import PredictionRequest
from fyretoolkit.serving.parsing import parse_prediction
from fyretoolkit.settings import LimitSettings

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_REFUSALS = {"malformed_json", "invalid_request", "payload_too_large", "invalid_region"}


def _outcome(body: bytes) -> str:
    try:
        parse_prediction(body, LimitSettings(), ["us-east-1"])
    except PlatformError as error:
        json.loads(render_error(error, "req_1"))
        return error.code
    return "parsed"


@given(st.binary())
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    assert _outcome(body) in _REFUSALS | {"parsed"}


@given(st.dictionaries(st.sampled_from(["inputs", "metadata", "options", "other"]), _JSON))
def test_any_object_is_parsed_or_refused(body: dict[str, object]) -> None:
    assert _outcome(json.dumps(body).encode()) in _REFUSALS | {"parsed"}


@given(st.lists(_JSON, min_size=1))
def test_inputs_come_through_unchanged(inputs: list[object]) -> None:
    body = json.dumps({"inputs": inputs}).encode()
    try:
        parsed = parse_request(body, PredictionRequest)
    except PlatformError:  # text that UTF-8 cannot say
        return
    assert json.dumps(parsed.inputs) == json.dumps(json.loads(_rounded(body)))


def _rounded(body: bytes) -> str:
    """The inputs as orjson reads them: integers beyond 64 bits become floats."""
    import orjson

    return json.dumps(orjson.loads(body)["inputs"])


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
def test_metadata_is_bounded_in_depth(depth: int) -> None:
    body = b'{"inputs": [1], "metadata": {"a": ' + b"[" * depth + b"1" + b"]" * depth + b"}}"
    assert _outcome(body) == ("parsed" if depth < MAX_DEPTH - 1 else "invalid_request")
