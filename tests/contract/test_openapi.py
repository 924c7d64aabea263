"""The OpenAPI document: valid, complete, and the one that is checked in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

import fyretoolkit.schemas
from fyretoolkit.api.catalogue import error_page
from fyretoolkit.api.examples import EXAMPLES
from fyretoolkit.core.errors import CATALOGUE, OF_REQUESTS
from fyretoolkit.core.metrics import Period
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
    "/deployments/{deployment_id}/promote": {"post"},
    "/deployments/{deployment_id}/rollback": {"post"},
    "/files": {"get", "post"},
    "/files/{file_id}": {"delete", "get"},
    "/files/{file_id}/content": {"get"},
    "/healthz": {"get"},
    "/jobs": {"get"},
    "/jobs/{job_id}": {"get"},
    "/jobs/{job_id}/cancel": {"post"},
    "/jobs/{job_id}/retry": {"post"},
    "/jobs/{job_id}/deliveries": {"get"},
    "/jobs/{job_id}/deliveries/{delivery_id}/redeliver": {"post"},
    "/jobs/{job_id}/errors": {"get"},
    "/jobs/{job_id}/output": {"get"},
    "/metrics/{deployment_id}": {"get"},
    "/models": {"get", "post"},
    "/models/{model_id}": {"get"},
    "/models/{model_id}/archive": {"post"},
    "/models/{model_id}/publish": {"post"},
    "/nodes": {"get"},
    "/organizations": {"get", "post"},
    "/organizations/{organization_id}": {"get", "patch"},
    "/predict/{model_id}": {"post"},
    "/readyz": {"get"},
    "/webhook_secret": {"get"},
    "/webhook_secret/rotate": {"post"},
}
FREE = {"/healthz", "/readyz"}
DOWNLOADS = {"/jobs/{job_id}/output", "/jobs/{job_id}/errors", "/files/{file_id}/content"}
"""Answers that are no JSON."""
BEFORE_THE_KEY = {"401", "408", "431", "502"}
"""Answered before a key is known."""
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
        assert {"400", "403", "408", "431", "500", "502", "503", "504"} <= statuses, (path, method)
        if path in FREE:
            assert operation["security"] == [], path
            assert not {"401", "429"} & statuses, path
        else:
            assert {"401", "403", "429"} <= statuses, (path, method)
        if "requestBody" in operation:
            assert {"413", "415"} <= statuses, (path, method)
        if "{" in path:
            assert "404" in statuses, (path, method)


async def test_answers_name_their_headers_and_show_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        for status, found in operation["responses"].items():
            answer = _answer(document, found)
            where = (path, method, status)
            assert "X-Request-Id" in answer["headers"], where
            has_limits = path not in FREE and status not in BEFORE_THE_KEY
            assert bool(RATE_LIMITS & set(answer["headers"])) is has_limits, where
            assert not has_limits or set(answer["headers"]) >= RATE_LIMITS, where
            assert ("WWW-Authenticate" in answer["headers"]) is (status == "401"), where
            assert ("Content-Range" in answer["headers"]) is (status in ("206", "416")), where
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"]
            for media in answer["content"].values():
                assert path in DOWNLOADS or "example" in media or "examples" in media, where


async def test_failures_are_the_envelope(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        for status, found in operation["responses"].items():
            if status >= "400":
                media = _answer(document, found)["content"]["application/json"]
                assert media["schema"] == {"$ref": "#/components/schemas/ErrorEnvelope"}, (
                    path,
                    method,
                    status,
                )
                for code, example in media["examples"].items():
                    assert example["value"]["error"]["code"] == code
                    assert str(CATALOGUE[code].status) == status, (path, method, code)


def _codes(document: dict[str, Any], path: str, method: str) -> set[str]:
    """Every code that the operation shows."""
    answers = document["paths"][path][method]["responses"]
    failures = [_answer(document, found) for status, found in answers.items() if status >= "400"]
    return {code for each in failures for code in each["content"]["application/json"]["examples"]}


EVERY = {
    "invalid_request", "host_not_allowed", "request_timeout", "headers_too_large", "internal_error", "bad_gateway",
    "unavailable", "deadline_exceeded",
}  # fmt: skip
GUARDED = EVERY | {"invalid_api_key", "insufficient_scope", "rate_limit_exceeded"}
BODY = {"malformed_json", "payload_too_large", "unsupported_media_type"}


@pytest.mark.parametrize(
    ("path", "method", "codes"),
    [
        ("/healthz", "get", EVERY),
        ("/jobs", "get", GUARDED | {"invalid_cursor"}),
        ("/models/{model_id}", "get", GUARDED | {"model_not_found"}),
        ("/organizations", "post", GUARDED | BODY | {"invalid_plan"}),
        (
            "/files", "post",
            (GUARDED | BODY | {"idempotency_key_reused", "quota_exceeded", "storage_full"}) - {"malformed_json"},
        ),
        (
            "/predict/{model_id}", "post",
            GUARDED | BODY
            | {"model_not_found", "model_not_ready", "invalid_input", "invalid_region", "row_failed", "overloaded"},
        ),
    ],
)  # fmt: skip
async def test_an_operation_shows_the_codes_that_it_answers_with(
    document: dict[str, Any], path: str, method: str, codes: set[str]
) -> None:
    """And no other one of the same status."""
    assert _codes(document, path, method) == codes


async def test_no_operation_shows_a_code_that_stands_in_objects_alone(document: dict[str, Any]) -> None:
    """Every other code is shown somewhere, but for those of paths and methods that are not there."""
    shown = {code for path, method, _ in _operations(document) for code in _codes(document, path, method)}
    assert shown == OF_REQUESTS - {"not_found", "method_not_allowed"}


async def test_answers_require_what_they_always_have(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, model in _wire_models().items():
        if issubclass(model, Resource) and name in schemas:
            optional = set(schemas[name]["properties"]) - set(schemas[name]["required"])
            assert optional <= {"details", "metadata"}, name
            for each in optional:
                assert {"type": "null"} not in schemas[name]["properties"][each].get("anyOf", []), name
    assert "metadata" in schemas["JobResource"]["required"]
    assert "details" not in schemas["ErrorBody"]["required"]


async def test_parameters_say_what_they_take(document: dict[str, Any]) -> None:
    """One type each, described; ids with their pattern, and an example that fits it."""
    for path, method, operation in _operations(document):
        parameters = [_parameter(document, found) for found in operation["parameters"]]
        assert "X-Request-Id" in {each["name"] for each in parameters}, (path, method)
        assert ("Range" in {each["name"] for each in parameters}) is (path in DOWNLOADS)
        for parameter in parameters:
            where = (path, method, parameter["name"])
            assert parameter["description"], where
            assert "anyOf" not in parameter["schema"], where
            if parameter["in"] == "path" or parameter["name"] == "starting_after":
                assert re.search(parameter["schema"]["pattern"], parameter["example"]), where


def _parameter(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    name = found.get("$ref", "").rpartition("/")[2]
    resolved: dict[str, Any] = document["components"]["parameters"][name] if name else found
    return resolved


async def test_every_field_is_described(document: dict[str, Any]) -> None:
    missing = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, found in schema.get("properties", {}).items()
        if "description" not in found and "$ref" not in found
    ]
    assert missing == []


async def test_downloads_name_their_types(document: dict[str, Any]) -> None:
    """Those of this very file."""
    types = {
        "/jobs/{job_id}/output": {"application/jsonl", "text/csv"},
        "/jobs/{job_id}/errors": {"application/jsonl"},
        "/files/{file_id}/content": {"application/octet-stream", "application/jsonl", "text/csv"},
    }
    for path in DOWNLOADS:
        for status in ("200", "206"):
            answer = document["paths"][path]["get"]["responses"][status]
            assert set(answer["content"]) == types[path], path
            assert {"ETag", "Content-Disposition", "Accept-Ranges"} <= set(answer["headers"])
            assert ("X-Fyre-Partial" in answer["headers"]) is ("/jobs" in path)


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
    for example in EXAMPLES[name]:
        value = model.model_validate_json(json.dumps(example))
        if issubclass(model, Resource):  # an answer shows every field
            assert json.loads(value.model_dump_json()) == example


async def test_the_figures_of_the_metrics_example_agree() -> None:
    (example,) = EXAMPLES["MetricsResource"]
    length_s = example["end"] - example["start"]
    assert length_s == Period(example["period"]).length_s
    requests, throughput = example["metrics"]["requests"], example["metrics"]["throughput"]
    assert requests["total"] == sum(
        requests[name] for name in ("succeeded", "failed", "rejected", "canceled")
    )
    assert requests["per_second"] == float(f"{requests['total'] / length_s:.6g}")
    assert throughput["inputs_per_second"] == float(f"{throughput['inputs'] / length_s:.6g}")
    errors = example["metrics"]["errors"]
    assert errors["rate"] == float(f"{requests['failed'] / requests['total']:.6g}")
    assert sum(errors["by_code"].values()) == requests["failed"] + requests["rejected"]


async def test_every_example_is_of_a_schema_that_is_shown(document: dict[str, Any]) -> None:
    """And is shown there; no schema has examples of its own beside these."""
    schemas = document["components"]["schemas"]
    shown = {name: schema["examples"] for name, schema in schemas.items() if "examples" in schema}
    assert shown == EXAMPLES
