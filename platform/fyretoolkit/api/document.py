"""The OpenAPI document: what FastAPI reads off the routes, completed with what all operations have in common.

Checked in as `configs/openapi.json`, so that a change of the contract is seen in review. A failure is described once,
under `components.responses`, with an example for each code of the catalogue that has its status.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from fyretoolkit.api.catalogue import error_table
from fyretoolkit.api.examples import EXAMPLES
from fyretoolkit.api.openapi import BODIES, component
from fyretoolkit.core.errors import CATALOGUE, ErrorKind
from fyretoolkit.schemas.errors import ErrorEnvelope
from fyretoolkit.schemas.predictions import Prediction, PredictionRequest

_REF = "#/components/schemas/{model}"
_REQUEST_ID = "req_01M82FNH8T16KXP5GBAY415KX0"
_LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_EVERY = (431, 500, 502, 503, 504)
"""What any request may meet: a proxy in front, a part that is away."""
_GUARDED = (401, 403, 429)
"""What any request with a key may meet."""
_BODY = (400, 413, 415)
"""What any request with a JSON body may meet."""

_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": ("On every answer; equals `error.request_id`.", {"type": "string"}),
    "X-RateLimit-Limit": ("Requests a window that this key may make.", {"type": "integer"}),
    "X-RateLimit-Remaining": (
        "Requests left in the current window; for predictions a lower bound.",
        {"type": "integer", "minimum": 0},
    ),
    "X-RateLimit-Reset": ("Unix time at which the oldest counted request is forgotten.", {"type": "integer"}),
    "Retry-After": ("Seconds to wait before the next attempt.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("`Basic` with the realm.", {"type": "string"}),
    "Location": ("Where the new object is.", {"type": "string"}),
    "Idempotent-Replayed": (
        "`true` when this is the first answer to the same key again.",
        {"type": "string", "enum": ["true"]},
    ),
    "X-Fyre-Partial": (
        "`true` when these are not the results of every record, or not yet.",
        {"type": "string", "enum": ["true"]},
    ),
    "Content-Range": ("Which bytes these are, and of how many.", {"type": "string"}),
}

_DESCRIPTION = """Deploy an ONNX model with one POST, call it in real time, run it over a file of a million rows.

**Authentication.** The API key is the username of HTTP Basic, the password is empty (`curl -u YOUR_KEY: …`); \
`Authorization: Bearer YOUR_KEY` is accepted too.

**Limits.** Requests are counted by key in a sliding window, separately for reads, writes and predictions. Every \
answer to a valid key says how many are left (`X-RateLimit-*`); 429 says how long to wait (`Retry-After`).

**Lists** are newest first. `limit` is 1 to 100 (20 by default); pass the last id as `starting_after` for the next page.

**Idempotency.** A POST that creates a job, deployment, model or file takes an `Idempotency-Key` header (or \
`idempotency_key` in its JSON body). The same key with the same request gets the first answer again for 24 h, with \
`Idempotent-Replayed: true`; with another request it gets 409.

**Errors.** Every answer that is not 2xx has one shape, `{"error": {"code", "message", "request_id", "details"?}}`. \
Unknown fields of a body are refused, so that a typo is never ignored.

<details>
<summary>Error codes</summary>

ERROR_CODES

</details>
"""

_TAGS = {
    "Predictions": "Answers in real time.",
    "Batch jobs": "A model over every row of a CSV or JSONL file.",
    "Models": "ONNX packages with a signature. The demo models are everybody's to use.",
    "Deployments": "Models being served.",
    "Metrics": "Requests, latency and errors of a deployment.",
    "Files": "Inputs and models to send along: `fyre://files/<id>`.",
    "API keys": "The keys of your organization; needs the scope `admin`.",
    "Organizations": "Who uses the platform, and by which plan; needs the scope `operator`.",
    "Health": "For whoever supervises the platform; needs no key.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION.replace("ERROR_CODES", error_table()),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        routes=app.routes,
        openapi_version="3.1.0",
    )
    document["paths"]["/predict/{model_id}"] = {"post": _predict_operation()}
    _complete_components(document)
    for _, operation in _operations(document):
        _complete(operation, document["components"]["schemas"])
    document["paths"] = dict(sorted(document["paths"].items()))
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _complete_components(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    _, requests = models_json_schema([(body, "validation") for body in BODIES.values()], ref_template=_REF)
    answers = (Prediction, ErrorEnvelope)
    _, responses = models_json_schema([(answer, "serialization") for answer in answers], ref_template=_REF)
    schemas = {**components.get("schemas", {}), **requests["$defs"], **responses["$defs"]}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, example in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {
        name: {"description": text, "schema": schema} for name, (text, schema) in _HEADERS.items()
    }
    statuses = sorted({kind.status for kind in CATALOGUE.values()})
    components["responses"] = {_name(status): _failure(status) for status in statuses}
    components["parameters"] = {"Idempotency-Key": _IDEMPOTENCY_KEY}
    components["securitySchemes"] = _SECURITY
    document["security"] = [{"basic": []}, {"bearer": []}]


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the call repeatable: the same key and request give the same answer for 24 h.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "import-2026-11-22",
}
_SECURITY = {
    "basic": {"type": "http", "scheme": "basic", "description": "The key as username, no password."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The key."},
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "Within `output_url` and `errors_url`: the link works without a key until it expires.",
    },
}


def _name(status: int) -> str:
    """The name of a failure's component: `404` → `NotFound`."""
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "").replace("'", "")


def _failure(status: int) -> dict[str, Any]:
    kinds = {code: kind for code, kind in CATALOGUE.items() if kind.status == status}
    names = ["X-Request-Id", *_headers_of_failure(status)]
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: component("headers", name) for name in names},
        "content": {
            "application/json": {
                "schema": component("schemas", "ErrorEnvelope"),
                "examples": {code: {"value": _envelope(code, kind)} for code, kind in kinds.items()},
            }
        },
    }


def _headers_of_failure(status: int) -> tuple[str, ...]:
    if status == 401:
        return ("WWW-Authenticate",)
    return (*_LIMITS, *(("Retry-After",) if status in (429, 503) else ()))


def _envelope(code: str, kind: ErrorKind) -> dict[str, Any]:
    message = f"{kind.meaning} {kind.next_step}"
    return {"error": {"code": code, "message": message, "request_id": _REQUEST_ID}}


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Adds what all operations of this one's kind share, in place."""
    is_free = "security" in operation and not operation["security"]
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):  # FastAPI's own; ours are 400
        del responses["422"]
        responses.setdefault("400", {})
    statuses = [*_EVERY, *(() if is_free else _GUARDED), *(_BODY if "requestBody" in operation else ())]
    for status in (*statuses, *(int(each) for each in responses if int(each) >= 400)):
        responses[str(status)] = component("responses", _name(status))
    for status, response in responses.items():
        if int(status) < 400:
            names = ("X-Request-Id", *(() if is_free else _LIMITS))
            response["headers"] = {
                **{name: component("headers", name) for name in names},
                **response.get("headers", {}),
            }
            response["description"] = response["description"].replace("Successful Response", "Done.")
            _add_example(response, schemas)
            if "Idempotent-Replayed" in response["headers"]:
                operation.setdefault("parameters", []).append(component("parameters", "Idempotency-Key"))
    _add_example(operation.get("requestBody", {}), schemas)
    operation["responses"] = dict(sorted(responses.items()))


def _add_example(part: dict[str, Any], schemas: dict[str, Any]) -> None:
    """The example of the schema, shown where the schema is used."""
    for media in part.get("content", {}).values():
        if "example" in media or "examples" in media:
            continue
        name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name.startswith("Page_"):
            item = name.removeprefix("Page_").removesuffix("_")
            media["example"] = {
                "object": "list",
                "data": schemas[item].get("examples", []),
                "has_more": False,
            }
        elif examples := schemas.get(name, {}).get("examples"):
            media["example"] = examples[0]


def _predict_operation() -> dict[str, Any]:
    """The one operation that is not a FastAPI route."""
    BODIES[PredictionRequest.__name__] = PredictionRequest
    statuses = (404, 409, 422)
    return {
        "tags": ["Predictions"],
        "summary": "Predict",
        "description": "Runs the model over the inputs and answers one result for each, in order.",
        "operationId": "predict",
        "parameters": [
            {
                "name": "model_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "example": "sentiment-v1",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": component("schemas", "PredictionRequest")}},
        },
        "responses": {
            "200": {
                "description": "One result for each input.",
                "content": {"application/json": {"schema": component("schemas", "Prediction")}},
            },
            **{str(status): {"description": "A failure."} for status in statuses},
        },
    }
