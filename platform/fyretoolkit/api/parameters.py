"""Parameters in the OpenAPI document: ids, cursors, and headers that many operations take.

What FastAPI says of an optional query parameter, that it may be null, is not so: a query holds text, or lacks it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fyretoolkit.api.openapi import component
from fyretoolkit.core import api_keys, deployments, files, jobs, nodes, organizations, webhooks
from fyretoolkit.core.ids import SLUG, id_pattern


class _Id(NamedTuple):
    pattern: str
    description: str
    example: str


_IDS = {
    "model_id": _Id(SLUG, "The model's id.", "sentiment-v1"),
    "deployment_id": _Id(
        id_pattern(deployments.PREFIX), "The deployment's id.", "dep_01M82FN15TQT5WCCHWG0SYBVXG"
    ),
    "job_id": _Id(id_pattern(jobs.PREFIX), "The job's id.", "job_01M82FPZ3M4V5N6P7Q8R9S0T1V"),
    "delivery_id": _Id(id_pattern(webhooks.PREFIX), "The delivery's id.", "msg_01M82FQ7Y2Z3A4B5C6D7E8F9G0"),
    "file_id": _Id(id_pattern(files.PREFIX), "The file's id.", "file_01M82FQ0A1B2C3D4E5F6G7H8JA"),
    "key_id": _Id(
        id_pattern(api_keys.PREFIX, api_keys.DEMO_KEY_ID), "The key's id.", "key_01M82FQ0A1B2C3D4E5F6G7H8J9"
    ),
    "node_id": _Id(nodes.ID, "The node's id.", "3a4d1c0f6b7e8899aabbccddeeff00112233445566778899aabbccdd"),
    "organization_id": _Id(
        id_pattern(organizations.PREFIX, organizations.DEMO_ORG),
        "The organization's id.",
        "org_01M82FQ0A1B2C3D4E5F6G7H8J8",
    ),
}
_CURSORS = {
    "/models": "model_id",
    "/deployments": "deployment_id",
    "/jobs": "job_id",
    "/jobs/{job_id}/deliveries": "delivery_id",
    "/files": "file_id",
    "/api_keys": "key_id",
    "/organizations": "organization_id",
    "/nodes": "node_id",
}
"""Whose ids `starting_after` takes, by list."""

HEADER_PARAMETERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "The caller's own id of the request, kept in answer and log. One that does not fit is replaced.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,127}$"},
        "example": "order-7.attempt-1",
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Makes the call repeatable: the same key and request give the same answer for 24 h.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "example": "import-2026-11-22",
    },
    "Range": {
        "name": "Range",
        "in": "header",
        "required": False,
        "description": "One range of bytes; anything else is ignored, and the whole file is the answer.",
        "schema": {"type": "string"},
        "example": "bytes=0-1023",
    },
}


def complete_parameters(path: str, operation: dict[str, Any]) -> None:
    """What the operation takes beside its body, in place."""
    parameters: list[dict[str, Any]] = operation.setdefault("parameters", [])
    for parameter in parameters:
        _clean(parameter)
        name = _CURSORS[path] if parameter["name"] == "starting_after" else parameter["name"]
        if (known := _IDS.get(name)) is not None:
            parameter["schema"] |= {"type": "string", "pattern": known.pattern}
            parameter.setdefault("description", known.description)
            parameter["example"] = known.example
    headers = ["X-Request-Id"]
    if any("Idempotent-Replayed" in answer.get("headers", {}) for answer in operation["responses"].values()):
        headers.append("Idempotency-Key")
    if "206" in operation["responses"]:
        headers.append("Range")
    parameters += [component("parameters", name) for name in headers]


def _clean(parameter: dict[str, Any]) -> None:
    """A schema of one type, its description beside it."""
    schema = parameter["schema"]
    choices = [each for each in schema.pop("anyOf", ()) if each != {"type": "null"}]
    for choice in choices:  # one: the type itself
        schema |= choice
    for name in ("title", "description"):
        schema.pop(name, None)
