"""Field errors: a sentence that says what to send, and the name that was meant."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from pydantic import Field

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import about_field, invalid_request, parse_request
from fyretoolkit.schemas.names import Name
from fyretoolkit.schemas.wire import RequestModel


class _Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class _Inner(RequestModel):
    size: int = 0


class _Body(RequestModel):
    items: Annotated[list[int], Field(min_length=1, max_length=2)] = Field(default_factory=lambda: [1])
    pair: Annotated[list[int], Field(min_length=2)] = Field(default_factory=lambda: [1, 2])
    text: Annotated[str, Field(min_length=2, max_length=3)] = "ab"
    letter: Annotated[str, Field(min_length=1)] = "a"
    whole: int = 0
    share: float = 0.0
    is_on: bool = False
    more: dict[str, int] = Field(default_factory=dict)
    inner: _Inner = _Inner()
    above: Annotated[int, Field(gt=0)] = 1
    least: Annotated[int, Field(ge=1)] = 1
    below: Annotated[int, Field(lt=3)] = 1
    most: Annotated[int, Field(le=3)] = 1
    form: Literal["jsonl", "csv"] = "csv"
    colour: Annotated[_Colour, Field(strict=False)] = _Colour.RED
    name: Name = "a"


def _refusal(body: object, request_type: type[RequestModel] = _Body) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        parse_request(json.dumps(body).encode(), request_type)
    return caught.value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"items": {}}, "items: Send an array."),
        ({"items": []}, "items: Send an array of at least 1 item."),
        ({"items": [1, 2, 3]}, "items: Send an array of at most 2 items."),
        ({"pair": [1]}, "pair: Send an array of at least 2 items."),
        ({"text": 1}, "text: Send a string."),
        ({"text": "a"}, "text: Send at least 2 characters."),
        ({"text": "abcd"}, "text: Send at most 3 characters."),
        ({"letter": ""}, "letter: Send at least 1 character."),
        ({"whole": "1"}, "whole: Send a whole number."),
        ({"whole": 1.5}, "whole: Send a whole number."),
        ({"share": "1"}, "share: Send a number."),
        ({"is_on": 1}, "is_on: Send true or false."),
        ({"more": []}, "more: Send an object."),
        ({"inner": 1}, "inner: Send an object."),
        ({"above": 0}, "above: Send a number greater than 0."),
        ({"least": 0}, "least: Send a number of at least 1."),
        ({"below": 3}, "below: Send a number less than 3."),
        ({"most": 4}, "most: Send a number of at most 3."),
        ({"form": "xml"}, "form: Send 'jsonl' or 'csv'."),
        ({"colour": "green"}, "colour: Send 'red' or 'blue'."),
        ({"mots": 1}, "mots: Unknown field. Did you mean most?"),
        ({"inner": {"siez": 1}}, "inner.siez: Unknown field. Remove it."),
    ],
)
def test_a_misfit_is_told_what_to_send(body: object, message: str) -> None:
    assert _refusal(body).message == message


def test_a_field_that_is_missing_is_to_be_added() -> None:
    class Needing(RequestModel):
        name: str

    assert _refusal({}, Needing).message == "name: This field is required. Add it."


@pytest.mark.parametrize("name", [" ", "\u00a0\u2003 "])
def test_a_name_of_blanks_is_refused(name: str) -> None:
    assert "not of blanks alone" in _refusal({"name": name}).message


def test_a_parameter_is_called_one() -> None:
    errors = [{"type": "extra_forbidden", "loc": ("zzz",), "msg": ""}]
    message = invalid_request(errors, ("limit", "status"), noun="parameter").message
    assert message == "zzz: Unknown parameter. Known: limit, status."


def test_an_error_about_a_field_keeps_what_else_it_says() -> None:
    error = PlatformError("invalid_region", "Unknown.", details={"regions": ["a"]}, retry_after_s=3)
    about = about_field("region", error)
    assert about.details == {"regions": ["a"], "fields": [{"path": "region", "message": "Unknown."}]}
    assert (about.code, about.message, about.retry_after_s) == ("invalid_region", "region: Unknown.", 3)
