"""The OpenAPI document: what FastAPI reads off the routes, completed with what all operations have in common.

Checked in as `configs/openapi.json`, so that a change of the contract is seen in review. What is said of parameters is
in `parameters.py`, of failures in `failures.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from fyretoolkit.api.catalogue import error_table
from fyretoolkit.api.examples import EXAMPLES
from fyretoolkit.api.failures import LIMIT_HEADERS, complete_failures, is_free
from fyretoolkit.api.openapi import BODIES, component, failures
from fyretoolkit.api.parameters import HEADER_PARAMETERS, complete_parameters
from fyretoolkit.schemas.errors import ErrorEnvelope
from fyretoolkit.schemas.predictions import Prediction, PredictionRequest

_REF = "#/components/schemas/{model}"

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
    "Accept-Ranges": ("`bytes`.", {"type": "string"}),
    "Content-Disposition": ("The name to save the file under.", {"type": "string"}),
    "ETag": (
        "Of this content, for `If-Range`; a job's file has one once it is whole.",
        {"type": "string"},
    ),
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
    "Webhooks": "What a job tells your server when it ends, signed as Standard Webhooks has it.",
    "Models": "ONNX packages with a signature. The demo models are everybody's to use.",
    "Deployments": "Models being served.",
    "Metrics": "Requests, latency and errors of a deployment.",
    "Files": "Inputs and models to send along: `fyre://files/<id>`.",
    "API keys": "The keys of your organization; needs the scope `admin`.",
    "Organizations": "Who uses the platform, and by which plan; needs the scope `operator`.",
    "Nodes": "The machines it runs on, and what is free of them; needs the scope `admin`.",
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
    for path, operation in _operations(document):
        _complete(path, operation, document["components"])
    responses = document["components"]["responses"]
    document["components"]["responses"] = dict(sorted(responses.items()))
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
    for name, found in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = found
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {
        name: {"description": text, "schema": schema} for name, (text, schema) in _HEADERS.items()
    }
    components["responses"] = {}
    components["parameters"] = HEADER_PARAMETERS
    components["securitySchemes"] = _SECURITY
    document["security"] = [{"basic": []}, {"bearer": []}]


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


def _complete(path: str, operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Adds what all operations of this one's kind share, in place."""
    complete_parameters(path, operation)
    responses = operation["responses"]
    for status, response in responses.items():
        if int(status) < 400:
            names = ("X-Request-Id", *(() if is_free(operation) else LIMIT_HEADERS))
            response["headers"] = {
                **{name: component("headers", name) for name in names},
                **response.get("headers", {}),
            }
            response["description"] = response["description"].replace("Successful Response", "Done.")
            _add_example(response, components["schemas"])
    complete_failures(operation, components["responses"])
    _add_example(operation.get("requestBody", {}), components["schemas"])
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
    own = failures(
        "model_not_found", "model_not_ready", "invalid_input", "invalid_region", "row_failed", "overloaded"
    )
    return {
        "tags": ["Predictions"],
        "summary": "Predict",
        "description": "Runs the model over the inputs and answers one result for each, in order.",
        "operationId": "predict",
        "parameters": [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": component("schemas", "PredictionRequest")}},
        },
        "responses": {
            "200": {
                "description": "One result for each input.",
                "content": {"application/json": {"schema": component("schemas", "Prediction")}},
            },
            **{str(status): answer for status, answer in own.items()},
        },
    }
