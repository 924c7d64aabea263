"""Answers that are no success, as errors; answers that are one, as resources."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import pytest

from fyretoolkit.client import errors
from fyretoolkit.client.errors import APIError, FyreError, UnexpectedResponseError, api_error
from fyretoolkit.client.reading import read_page, read_resource
from fyretoolkit.client.retry_after import read_retry_after
from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.schemas.files import FileResource
from fyretoolkit.schemas.jobs import JobResource

_NOW = 1_800_000_000.0
_CLASSES = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: errors.InvalidRequestError,
    408: errors.ServerError,
    409: errors.ConflictError,
    413: errors.InvalidRequestError,
    415: errors.InvalidRequestError,
    416: errors.InvalidRequestError,
    422: errors.UnprocessableError,
    429: errors.RateLimitError,
    431: errors.InvalidRequestError,
    500: errors.ServerError,
    502: errors.ServerError,
    503: errors.ServerError,
    504: errors.ServerError,
    507: errors.ServerError,
}


def _body(code: str, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": "Why.", "request_id": "req_1", **more}}).encode()


def _error(status: int, content: bytes, **headers: str) -> APIError:
    named = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return api_error(status, named, content, now=_NOW)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_code_of_the_catalogue_has_a_class(code: str) -> None:
    """By its status, whichever codes come to be."""
    status = CATALOGUE[code].status
    error = _error(status, _body(code))
    assert type(error) is _CLASSES[status]
    assert (error.status, error.code, error.message, error.request_id) == (status, code, "Why.", "req_1")


def test_an_error_says_everything_that_the_answer_says() -> None:
    """Fields of a newer platform are passed over."""
    content = _body("rate_limit_exceeded", details={"limit": 3}, next_step="…")
    error = _error(429, content, Retry_After="7")
    assert (error.details, error.retry_after_s) == ({"limit": 3}, 7.0)
    assert str(error) == "rate_limit_exceeded: Why. (request id: req_1)"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.__dict__) == (type(error), error.__dict__)


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"[1]", b'{"error": "text"}', b"\xff", b"null"])
def test_what_a_proxy_says_in_its_own_words_is_an_error_too(content: bytes) -> None:
    error = _error(502, content, X_Request_Id="req_2", Retry_After="1")
    assert type(error) is errors.ServerError
    assert (error.code, error.request_id, error.retry_after_s) == ("unexpected_answer", "req_2", 1.0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 30, 999_999_999.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    """Seconds, or a date (RFC 9110): 1,800,000,000 is 2027-01-15 08:00:00 UTC."""
    assert read_retry_after(header, now=_NOW) == expected


def test_all_errors_are_one_tree() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    ours = [each for each in found if each.__module__ == errors.__name__]
    assert len(ours) == 18
    assert all(issubclass(each, FyreError) for each in ours)


_FILE = {
    "id": "file_1",
    "object": "file",
    "size_bytes": 1,
    "sha256": "00",
    "filename": "x.csv",
    "created": 1,
    "expires_at": 2,
}
_JOB = {
    "id": "job_1",
    "object": "batch_job",
    "status": "failed",
    "model": "m",
    "created": 1,
    "started": None,
    "finished": None,
    "input_url": "u",
    "output_format": "jsonl",
    "progress": {"processed": 0, "total": None, "succeeded": 0, "failed": 0, "skipped": 3},
    "queue_position": None,
    "expires_at": None,
    "retry_of": None,
    "output_url": None,
    "errors_url": None,
    "error": {"code": "c", "message": "m", "hint": "new"},
    "partial": False,
    "webhook": None,
    "metadata": {"any": "thing"},
    "priority": 1,
}


def test_fields_of_a_newer_platform_are_passed_over_at_any_depth() -> None:
    job = read_resource(JobResource, json.dumps(_JOB).encode())
    assert (job.id, job.progress.failed, job.metadata) == ("job_1", 0, {"any": "thing"})
    page = {"object": "list", "data": [{**_FILE, "colour": "red"}], "has_more": True, "total": 9}
    assert read_page(FileResource, json.dumps(page).encode()) == ([FileResource.model_validate(_FILE)], True)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"{}", b"[]", b'{"data": 3}', b'{"data": [{}], "has_more": 1}']
)
def test_another_answer_is_an_error_of_the_client(content: bytes) -> None:
    with pytest.raises(UnexpectedResponseError, match="base URL"):
        read_resource(FileResource, content)
    with pytest.raises(UnexpectedResponseError, match="base URL"):
        read_page(FileResource, content)
