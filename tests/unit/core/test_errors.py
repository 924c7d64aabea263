"""The catalogue: every code has a status that HTTP knows, and errors survive the way through another process."""

from __future__ import annotations

import pickle
from http import HTTPStatus

import pytest

from fyretoolkit.core.errors import CATALOGUE, PlatformError


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_tells_what_to_do(code: str) -> None:
    """A known status of an error, a sentence that says what is wrong, one that says what to do."""
    kind = CATALOGUE[code]
    assert HTTPStatus(kind.status) >= 400
    assert kind.meaning.endswith(".")
    assert kind.next_step.endswith(("…", ".", "'"))
    assert code == code.lower()


def test_an_unknown_code_is_refused() -> None:
    """A code that is not in the table cannot be raised."""
    with pytest.raises(KeyError):
        PlatformError("no_such_code")


def test_an_error_crosses_processes() -> None:
    """Ray pickles exceptions: code, message, details and the wait must arrive."""
    error = PlatformError("overloaded", "Busy.", details={"queue": 3}, retry_after_s=2)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.message, copy.details, copy.retry_after_s) == (
        "overloaded",
        "Busy.",
        {"queue": 3},
        2,
    )
    assert copy.status == 503
