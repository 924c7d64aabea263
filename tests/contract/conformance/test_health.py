"""Health, and the description of everything else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.api_bench import Bench
from tests.support.conformance import Caller, error_of
from tests.support.sentences import sentence

OPERATIONS = {
    ("GET", "/api_keys"), ("POST", "/api_keys"), ("GET", "/api_keys/{}"), ("DELETE", "/api_keys/{}"),
    ("POST", "/api_keys/{}/rotate"),
    ("GET", "/organizations"), ("POST", "/organizations"), ("GET", "/organizations/{}"), ("PATCH", "/organizations/{}"),
    ("POST", "/predict/{}"), ("POST", "/batch/{}"),
    ("GET", "/jobs"), ("GET", "/jobs/{}"), ("POST", "/jobs/{}/cancel"), ("GET", "/jobs/{}/output"),
    ("GET", "/jobs/{}/errors"),
    ("GET", "/models"), ("POST", "/models"), ("GET", "/models/{}"), ("POST", "/models/{}/publish"),
    ("POST", "/models/{}/archive"),
    ("GET", "/deployments"), ("POST", "/deployments"), ("GET", "/deployments/{}"), ("PATCH", "/deployments/{}"),
    ("DELETE", "/deployments/{}"), ("POST", "/deployments/{}/promote"), ("POST", "/deployments/{}/rollback"),
    ("GET", "/metrics/{}"),
    ("GET", "/files"), ("POST", "/files"), ("GET", "/files/{}"), ("GET", "/files/{}/content"), ("DELETE", "/files/{}"),
    ("GET", "/healthz"), ("GET", "/readyz"),
}  # fmt: skip
FREE = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def document(api: Caller) -> dict[str, Any]:
    """The served OpenAPI document."""
    return api.read("/openapi.json")


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Operations by method and path, parameters unnamed."""
    return {
        (method.upper(), re.sub(r"{\w+}", "{}", path)): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "patch", "delete", "put")
    }


@sentence("health-1")
def test_alive(api: Caller) -> None:
    """Without a key."""
    assert api.get("/healthz").status_code == 200


@sentence("health-2")
def test_ready(api: Caller) -> None:
    """Each part by name."""
    assert api.read("/readyz")["checks"].keys() == {"redis", "serve", "controller"}


@sentence("health-2")
@pytest.mark.anyio
async def test_not_ready(bench: Bench) -> None:
    """The same names, and which one it is."""
    bench.control["serve"] = "no answer"
    error = error_of(await bench.request("GET", "/readyz"), 503, "unavailable")
    assert error["details"].keys() == {"redis", "serve", "controller"}
    assert error["details"]["serve"] == "no answer"


@sentence("health-3")
def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """OpenAPI 3.1, and nothing missing."""
    assert document["openapi"].startswith("3.1")
    assert operations(document).keys() >= OPERATIONS
    schemes = document["components"]["securitySchemes"].values()
    assert {"basic", "bearer"} <= {each.get("scheme") for each in schemes}


@sentence("health-4")
def test_every_operation_says_how_it_can_end(document: dict[str, Any]) -> None:
    """A success, the failures that every call may have, and on each its headers."""
    for (method, path), operation in operations(document).items():
        statuses = set(operation["responses"])
        assert {status for status in statuses if status.startswith("2")}, (method, path)
        needed = {"500"} if path in FREE else {"401", "403", "429", "500", "503"}
        needed |= {"404"} if "{}" in path else set()
        needed |= {"400", "413", "415"} if "requestBody" in operation and path != "/files" else set()
        assert needed <= statuses, (method, path, needed - statuses)
        for status, answer in operation["responses"].items():
            names = {name.lower() for name in resolved(document, answer).get("headers", {})}
            assert "x-request-id" in names, (method, path, status)
            if path not in FREE and status not in ("401", "408", "431", "502"):
                assert "x-ratelimit-remaining" in names, (method, path, status)


@sentence("health-4")
def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    """Beside its schema, or in it."""
    for (method, path), operation in operations(document).items():
        if "requestBody" in operation:
            for kind, content in resolved(document, operation["requestBody"])["content"].items():
                schema = resolved(document, content.get("schema", {}))
                found = [content.get("example"), content.get("examples"), schema.get("examples")]
                if kind == "application/json":
                    assert any(found), (method, path, kind)


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The part itself, or what it refers to."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


@sentence("health-5", "health-6", "health-7")
@pytest.mark.parametrize("page", ["/docs", "/", "/docs/guides", "/docs/guides/errors"])
def test_the_pages_need_no_key_and_no_internet(api: Caller, page: str) -> None:
    """Scripts, styles and images come from here, and are there."""
    answer = api.get(page)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"""<(?:script|link|img)[^>]*?(?:src|href)=["']([^"']+)""", answer.text)
    for address in loaded:
        assert not re.match(r"(?:https?:)?//", address), address
        if not address.startswith("data:"):
            assert api.get(address if address.startswith("/") else f"/{address}").status_code == 200
