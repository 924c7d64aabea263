"""Models: registered, published, archived, and those that belong to everyone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.conformance import REGION, Caller, Organization, error_of, fields_of
from tests.support.onnx_graphs import echo, lookup
from tests.support.platform import until
from tests.support.sentences import sentence

FIELDS = {
    "id", "object", "status", "created", "description", "signature", "example", "sha256", "size_bytes", "source_uri",
    "deployments", "error",
}  # fmt: skip
PUBLIC = {"digits", "sentiment-v1", "sentiment-v2", "breast-cancer"}


def new_id() -> str:
    """A model id that nobody uses."""
    return f"m-{secrets.token_hex(6)}"


def training(caller: Caller) -> str:
    """The id of a new model without an artifact."""
    return str(caller.made("/models", {"id": new_id(), "status": "training"})["id"])


def inspected(caller: Caller, name: str) -> dict[str, Any]:
    """The model once its artifact is there, or it is known why not."""

    def settled() -> dict[str, Any] | None:
        model = caller.read(f"/models/{name}")
        return model if model["status"] == "ready" or model["error"] else None

    return until(settled, timeout_s=240, what=f"{name} inspected")


@pytest.fixture(scope="module")
def table(org: Organization) -> dict[str, Any]:
    """A ready model of `org`, registered from a file. Read it only."""
    uri = org.caller.upload(lookup(), "Lookup Table.onnx")
    made = org.caller.made("/models", {"id": new_id(), "model_uri": uri, "description": "ten times"})
    assert (made["status"], made["source_uri"], made["sha256"]) == ("training", uri, None)
    return inspected(org.caller, made["id"])


@sentence("models-1", "models-19")
def test_the_list_has_own_and_public_models(fresh: Organization) -> None:
    """Not those of others."""
    mine = training(fresh.caller)
    ids = {model["id"] for model in fresh.caller.read("/models", params={"limit": 100})["data"]}
    assert ids == {mine, *PUBLIC}
    assert fresh.caller.post("/predict/digits", {"inputs": [[0] * 64]}).status_code == 200


@sentence("models-2", "models-5")
def test_a_registered_model(org: Organization, table: dict[str, Any]) -> None:
    """Inspected: its signature, its bytes' digest and size."""
    assert table.keys() == FIELDS
    assert (table["object"], table["status"], table["error"]) == ("model", "ready", None)
    assert table["description"] == "ten times"
    assert table["signature"] == {
        "inputs": [{"name": "index", "dtype": "int64", "shape": [None]}],
        "outputs": [{"name": "value", "dtype": "float32", "shape": [None]}],
    }
    assert len(bytes.fromhex(table["sha256"])) == hashlib.sha256().digest_size
    assert table["size_bytes"] >= len(lookup())
    assert table["source_uri"].startswith("fyre://files/")
    listed = org.caller.read("/models", params={"limit": 100, "status": "ready"})["data"]
    assert table in listed


@sentence("models-3", "models-4")
def test_the_filter(fresh: Organization) -> None:
    """One model in each state; another state is a mistake."""
    caller = fresh.caller
    put_away, in_training = training(caller), training(caller)
    caller.post(f"/models/{put_away}/archive")
    for status, expected in (("archived", {put_away}), ("training", {in_training}), ("ready", PUBLIC)):
        listed = caller.read("/models", params={"status": status})["data"]
        assert {model["id"] for model in listed} == expected
        assert {model["status"] for model in listed} == {status}
    assert fields_of(caller.get("/models", params={"status": "new"})) == ["status"]


@sentence("models-6")
def test_a_model_in_training(caller: Caller) -> None:
    """Known before there is anything to fetch."""
    name = new_id()
    answer = caller.post("/models", {"id": name, "status": "training", "description": "soon"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/models/{name}"
    made = answer.json()
    assert made.keys() == FIELDS
    assert (made["status"], made["description"], made["source_uri"]) == ("training", "soon", None)
    assert caller.read(f"/models/{name}") == made


@sentence("models-6", "models-7")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "a"},
        {"status": "training"},
        {"id": "a", "status": "training", "model_uri": "https://a.example/a.onnx"},
        {"id": "a", "status": "ready"},
        {"id": "Not A Slug", "status": "training"},
    ],
)
def test_neither_or_both(caller: Caller, body: dict[str, Any]) -> None:
    """A model has a source or is in training under an id."""
    error_of(caller.post("/models", body), 400, "invalid_request")


@sentence("models-8")
def test_named_by_its_file(fresh: Organization) -> None:
    """The last part of the URI, as a slug."""
    made = fresh.caller.made("/models", {"model_uri": "file:///not-here/My%20Model.onnx"})
    assert made["id"] == "my-model"


@sentence("models-9")
def test_an_artifact_that_is_no_use(caller: Caller) -> None:
    """Nothing there, or not ONNX: it stays in training and says why."""
    sources = {
        "artifact_not_found": "file:///not-here/a.onnx",
        "invalid_onnx": caller.upload(lookup()[:-20], "half.onnx"),
    }
    for code, uri in sources.items():
        name = caller.made("/models", {"id": new_id(), "model_uri": uri})["id"]
        model = inspected(caller, name)
        assert (model["status"], model["error"]["code"]) == ("training", code)
        assert model["error"]["message"]


@sentence("models-10")
def test_an_id_in_use(caller: Caller) -> None:
    """By this organization, or by a public model; not by another organization."""
    name = training(caller)
    for taken in (name, "digits"):
        error_of(caller.post("/models", {"id": taken, "status": "training"}), 409, "model_conflict")
        body = {"id": taken, "model_uri": "https://a.example/other.onnx"}
        error_of(caller.post("/models", body), 409, "model_conflict")


@sentence("models-10")
def test_organizations_have_names_of_their_own(org: Organization, other: Organization) -> None:
    """The same id twice, for two owners."""
    name = training(org.caller)
    assert other.caller.post("/models", {"id": name, "status": "training"}).status_code == 201


@sentence("models-11")
def test_publish(caller: Caller) -> None:
    """From training to ready; after a failure another source may be published."""
    name = training(caller)
    broken = caller.upload(b"nothing of use", "broken.onnx")
    answer = caller.post(f"/models/{name}/publish", {"model_uri": broken})
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (200, "training", None)
    assert inspected(caller, name)["error"]
    again = caller.post(f"/models/{name}/publish", {"model_uri": caller.upload(lookup(), "good.onnx")})
    assert (again.status_code, again.json()["error"]) == (200, None)
    assert inspected(caller, name)["status"] == "ready"


@sentence("models-12")
def test_only_a_model_in_training_is_published(caller: Caller, table: dict[str, Any]) -> None:
    """Not a ready one, not an archived one."""
    archived = training(caller)
    caller.post(f"/models/{archived}/archive")
    body = {"model_uri": "https://a.example/a.onnx"}
    for name in (table["id"], archived):
        error_of(caller.post(f"/models/{name}/publish", body), 409, "model_not_publishable")


@sentence("models-12", "idem-1", "idem-6")
def test_publishing_again_with_its_key(caller: Caller) -> None:
    """The first answer again, though the model is ready by now; another model is another operation."""
    name, other = training(caller), training(caller)
    body = {"model_uri": caller.upload(lookup(), "good.onnx"), "idempotency_key": name}
    first = caller.post(f"/models/{name}/publish", body)
    assert inspected(caller, name)["status"] == "ready"
    again = caller.post(f"/models/{name}/publish", body)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in caller.post(f"/models/{other}/publish", body).headers


@sentence("models-13")
def test_archive(caller: Caller) -> None:
    """Twice is once."""
    name = training(caller)
    first, second = (caller.post(f"/models/{name}/archive") for _ in range(2))
    assert (first.status_code, first.json()["status"]) == (200, "archived")
    assert (second.status_code, second.json()) == (200, first.json())


@sentence("models-14", "models-18")
def test_a_model_in_use_is_not_archived(caller: Caller, deployment: dict[str, Any]) -> None:
    """The answer names what uses it."""
    assert caller.read(f"/models/{deployment['model']}")["deployments"] == [deployment["id"]]
    refused = caller.post(f"/models/{deployment['model']}/archive")
    assert error_of(refused, 409, "model_in_use")["details"]["deployments"] == [deployment["id"]]


@sentence("models-15")
@pytest.mark.parametrize("action", ["archive", "publish"])
def test_public_models_stay_as_they_are(caller: Caller, operator: Caller, action: str) -> None:
    """Whoever asks; and the message tells why."""
    body = {"model_uri": "https://a.example/a.onnx"} if action == "publish" else None
    for each in (caller, operator):
        error = error_of(each.post(f"/models/digits/{action}", body), 404, "model_not_found")
        assert "public" in error["message"]


@sentence("models-16")
def test_what_is_not_ready_is_not_deployed(caller: Caller) -> None:
    """Training, then archived."""
    name = training(caller)
    body = {"model_uri": f"models://{name}", "region": REGION}
    for _ in range(2):
        error_of(caller.post("/deployments", body), 409, "model_not_ready")
        caller.post(f"/models/{name}/archive")


@sentence("models-17")
@pytest.mark.parametrize("name", ["not-here", "Not%20A%20Slug"])
def test_an_unknown_model(caller: Caller, name: str) -> None:
    """Whatever is done with it."""
    error_of(caller.get(f"/models/{name}"), 404, "model_not_found")
    error_of(caller.post(f"/models/{name}/archive"), 404, "model_not_found")
    body = {"model_uri": "https://a.example/a.onnx"}
    error_of(caller.post(f"/models/{name}/publish", body), 404, "model_not_found")


@sentence("models-5")
def test_another_graph_has_another_digest(
    new_org: Callable[..., Organization], table: dict[str, Any]
) -> None:
    """The digest is of the content, not of the name."""
    caller = new_org().caller
    names = [
        caller.made("/models", {"id": new_id(), "model_uri": caller.upload(graph, "x.onnx")})["id"]
        for graph in (lookup(), echo("float32", ["N", 3]))
    ]
    same, different = (inspected(caller, name)["sha256"] for name in names)
    assert (same == table["sha256"], different == table["sha256"]) == (True, False)
