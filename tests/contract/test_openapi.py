"""The OpenAPI document: valid, complete, and the one that is checked in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

import fyretoolkit.schemas
from fyretoolkit.api.catalogue import error_page
from fyretoolkit.api.examples import EXAMPLES
from fyretoolkit.core.errors import CATALOGUE
from fyretoolkit.schemas.wire import RequestModel, Resource
from fyretoolkit.settings import PROJECT_ROOT
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio
OPERATIONS = {
    "/api_keys": {"get", "post"},
    "/api_keys/{key_id}": {"delete", "get"},
    "/api_keys/{key_id}/rotate": {"post"},
    "/batch/{model_id}": {"post"},
    "/deployments": {"get", "post"},
    "/deployments/{deployment_id}": {"delete", "get", "patch"},
    "/files": {"get", "post"},
    "/files/{file_id}": {"delete", "get"},
    "/files/{file_id}/content": {"get"},
    "/healthz": {"get"},
    "/jobs": {"get"},
    "/jobs/{job_id}": {"get"},
    "/jobs/{job_id}/cancel": {"post"},
    "/jobs/{job_id}/errors": {"get"},
    "/jobs/{job_id}/output": {"get"},
    "/metrics/{deployment_id}": {"get"},
    "/models": {"get", "post"},
    "/models/{model_id}": {"get"},
    "/models/{model_id}/archive": {"post"},
    "/models/{model_id}/publish": {"post"},
    "/organizations": {"get", "post"},
    "/organizations/{organization_id}": {"get", "patch"},
    "/predict/{model_id}": {"post"},
    "/readyz": {"get"},
}
FREE = {"/healthz", "/readyz"}
DOWNLOADS = {"/jobs/{job_id}/output", "/jobs/{job_id}/errors", "/files/{file_id}/content"}
"""Answers that are no JSON."""
RATE_LIMITS = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}


@pytest.fixture
def document(bench: Bench) -> dict[str, Any]:
    """As served, read again from its text."""
    found: dict[str, Any] = json.loads(json.dumps(bench.app.openapi()))
    return found


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _answer(document: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in answer:
        return answer
    found: dict[str, Any] = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


async def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_the_checked_in_document_is_what_the_code_says(document: dict[str, Any]) -> None:
    """Otherwise run scripts/describe and read what changed."""
    checked_in = json.loads((PROJECT_ROOT / "configs" / "openapi.json").read_text("utf-8"))
    assert checked_in == document


async def test_the_error_page_is_what_the_code_says() -> None:
    page = (PROJECT_ROOT / "platform" / "fyretoolkit" / "api" / "ERRORS.md").read_text("utf-8")
    assert page == error_page()
    assert all(f"| `{code}` | {kind.status} |" in page for code, kind in CATALOGUE.items())


async def test_it_lists_exactly_the_operations_of_the_contract(document: dict[str, Any]) -> None:
    """HEAD is answered beside every GET and left out, and so are the pages for people."""
    found: dict[str, set[str]] = {}
    for path, method, _ in _operations(document):
        found.setdefault(path, set()).add(method)
    assert found == OPERATIONS


async def test_operations_have_an_id_a_summary_a_description_and_a_known_tag(
    document: dict[str, Any],
) -> None:
    ids = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in _operations(document):
        assert operation["summary"], (path, method)
        assert operation["description"], (path, method)
        assert set(operation["tags"]) <= tags, (path, method)


async def test_operations_name_what_every_request_of_their_kind_may_meet(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        statuses = set(operation["responses"])
        assert {"431", "500", "502", "503", "504"} <= statuses, (path, method)
        if path in FREE:
            assert operation["security"] == [], path
            assert not {"401", "403", "429"} & statuses, path
        else:
            assert {"401", "403", "429"} <= statuses, (path, method)
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= statuses, (path, method)
        if "{" in path:
            assert "404" in statuses, (path, method)


async def test_answers_name_their_headers_and_show_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        for status, found in operation["responses"].items():
            answer = _answer(document, found)
            where = (path, method, status)
            assert "X-Request-Id" in answer["headers"], where
            if status == "401":
                assert "WWW-Authenticate" in answer["headers"]
            elif path not in FREE:
                assert set(answer["headers"]) >= RATE_LIMITS, where
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"]
            for media in answer["content"].values():
                assert path in DOWNLOADS or "example" in media or "examples" in media, where


async def test_failures_are_the_envelope(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        for status, found in operation["responses"].items():
            if status >= "400":
                schema = _answer(document, found)["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, (path, method, status)


async def test_bodies_refuse_unknown_fields_and_show_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media:
            name = media["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False, name
            assert "example" in media, (path, method)


async def test_repeatable_creations_take_a_key(document: dict[str, Any]) -> None:
    for path in ("/batch/{model_id}", "/deployments", "/models", "/files"):
        operation = document["paths"][path]["post"]
        assert {"$ref": "#/components/parameters/Idempotency-Key"} in operation["parameters"]
        (created,) = (answer for status, answer in operation["responses"].items() if status < "300")
        assert {"Location", "Idempotent-Replayed"} <= set(created["headers"])


def _wire_models() -> dict[str, type[RequestModel | Resource]]:
    """Every wire model of the API by name."""
    assert fyretoolkit.schemas
    found: dict[str, type[RequestModel | Resource]] = {}
    waiting: list[type[Any]] = [RequestModel, Resource]
    while waiting:
        children = waiting.pop().__subclasses__()
        waiting += children
        found |= {child.__name__: child for child in children}
    return found


@pytest.mark.parametrize("name", sorted(EXAMPLES))
async def test_examples_are_what_they_are_examples_of(name: str) -> None:
    model = _wire_models()[name]
    value = model.model_validate_json(json.dumps(EXAMPLES[name]))
    if issubclass(model, Resource):  # an answer shows every field
        assert json.loads(value.model_dump_json()) == EXAMPLES[name]
