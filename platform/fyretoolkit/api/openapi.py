"""The OpenAPI document: what FastAPI reads off the routes, plus what it cannot see.

Bodies are read by our own functions and predict is plain ASGI, so both are described here from the same wire models.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fyretoolkit.schemas.deployments import DeploymentCreate
from fyretoolkit.schemas.errors import ErrorEnvelope
from fyretoolkit.schemas.jobs import BatchCreate
from fyretoolkit.schemas.predictions import Prediction, PredictionRequest

_REF = "#/components/schemas/{model}"
_FREE = frozenset(("/healthz", "/readyz"))
_REQUEST_ID = {"description": "Also `error.request_id`.", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
Responses = dict[int | str, dict[str, Any]]


def failures(*statuses: int) -> Responses:
    """The error answers of an operation."""
    return {
        status: {
            "model": ErrorEnvelope,
            "description": HTTPStatus(status).phrase,
            "headers": _failure_headers(status),
        }
        for status in (*statuses, 500)
    }


def creation_headers(status: int) -> Responses:
    """The headers of a creation."""
    return {
        status: {
            "headers": {
                "Location": {"description": "Where the object is.", "schema": {"type": "string"}},
                "Idempotent-Replayed": {
                    "description": "`true` when this is the first answer to the same key again.",
                    "schema": {"type": "string"},
                },
            }
        }
    }


def download() -> Responses:
    """A file, whole or in part."""
    content = {kind: {"schema": {"type": "string"}} for kind in ("application/jsonl", "text/csv")}
    return {
        200: {"description": "The file.", "content": content},
        206: {"description": "The range asked for.", "content": content},
    }


def request_body(body: type[BaseModel]) -> dict[str, Any]:
    """The body of an operation that reads it itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
    )
    document["paths"]["/predict/{model_id}"] = {"post": _predict_operation()}
    _add_components(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in _FREE:
                operation["security"] = []
            _drop_framework_errors(operation)
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
    return document


def _add_components(document: dict[str, Any]) -> None:
    bodies: list[type[BaseModel]] = [PredictionRequest, DeploymentCreate, BatchCreate]
    answers: list[type[BaseModel]] = [Prediction, ErrorEnvelope]
    _, requests = models_json_schema([(model, "validation") for model in bodies], ref_template=_REF)
    _, responses = models_json_schema([(model, "serialization") for model in answers], ref_template=_REF)
    components = document.setdefault("components", {})
    schemas = {**components.get("schemas", {}), **requests["$defs"], **responses["$defs"]}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "basic": {"type": "http", "scheme": "basic", "description": "The key as username, no password."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The key."},
    }
    document["security"] = [{"basic": []}, {"bearer": []}]


def _drop_framework_errors(operation: dict[str, Any]) -> None:
    """FastAPI announces its own 422 for every operation with parameters; ours are 400."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]


def _predict_operation() -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {"description": "One result for each input.", "content": _json(_ref(Prediction))}
    }
    for status in (400, 401, 403, 404, 409, 413, 415, 422, 500, 503, 504):
        answers[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": _json(_ref(ErrorEnvelope)),
            "headers": _failure_headers(status),
        }
    return {
        "tags": ["Predictions"],
        "summary": "Predict",
        "description": "Runs the model over the inputs and answers one result for each, in order.",
        "operationId": "predict",
        "parameters": [
            {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _ref(PredictionRequest),
                    "example": {"inputs": ["an utterly compelling film", "a complete waste of time"]},
                }
            },
        },
        "responses": answers,
    }


def _failure_headers(status: int) -> dict[str, Any]:
    if status == 401:
        return {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return {"Retry-After": _RETRY_AFTER} if status == 503 else {}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
