"""`POST /models`, publishing, archiving, and lists by status; the controller's part runs in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.control.models import ModelReconciler
from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG, Scope
from fyretoolkit.schemas.models import ModelResource
from fyretoolkit.store import keys
from tests.support.api_bench import DEMO_MODELS, Bench
from tests.support.onnx_graphs import echo, lookup

pytestmark = pytest.mark.anyio

URI = "https://a.example/m.onnx"
FOREIGN = {"x-request-id": "same"}


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def _paths(response: Any) -> list[str]:
    return [field["path"] for field in response.json()["error"]["details"]["fields"]]


def _file(bench: Bench, name: str, content: bytes) -> str:
    path = Path(bench.services.settings.egress.development_file_roots[0]) / name
    path.write_bytes(content)
    return path.as_uri()


async def _post(bench: Bench, path: str = "", key: str | None = None, **body: Any) -> Any:
    options = {"key": key} if key else {}
    return await bench.request("POST", f"/models{path}", json=body, **options)


async def _get(bench: Bench, name: str) -> dict[str, Any]:
    model: dict[str, Any] = (await bench.request("GET", f"/models/{name}")).json()
    return model


async def _ids(bench: Bench, query: str = "") -> list[str]:
    page = (await bench.request("GET", f"/models?{query}")).json()
    return [model["id"] for model in page["data"]]


@pytest.fixture
async def controller(bench: Bench) -> ModelReconciler:
    """The reconciler of models, as the controller runs it."""
    services = bench.services
    preparer = Preparer(services.settings, services.models, services.files)
    epoch = await services.deployments.new_controller_epoch()
    return ModelReconciler(services.settings, services.models, preparer, epoch=epoch)


async def _settled(bench: Bench, controller: ModelReconciler, name: str) -> dict[str, Any]:
    """The model once nothing is being prepared, and no task of the controller is left."""
    async with asyncio.timeout(30):
        while True:
            if not await controller.tick() and not controller._errands:
                return await _get(bench, name)
            await asyncio.sleep(0.02)


async def test_a_model_is_registered_in_training_and_becomes_ready(
    bench: Bench, controller: ModelReconciler
) -> None:
    uri = _file(bench, "Lookup Table.onnx", lookup())
    response = await _post(bench, model_uri=uri)
    model = ModelResource.model_validate(response.json())
    assert (response.status_code, response.headers["location"]) == (201, "/models/lookup-table")
    assert (model.id, model.status, model.source_uri, model.error) == ("lookup-table", "training", uri, None)
    assert (model.signature, model.sha256, model.size_bytes) == (None, None, 0)
    ready = await _settled(bench, controller, "lookup-table")
    assert (ready["status"], ready["error"]) == ("ready", None)
    assert ready["signature"]["inputs"][0]["name"]
    assert len(ready["sha256"]) == 64
    assert (await bench.create_deployment(model_uri="models://lookup-table")).status_code == 201


async def test_content_that_is_no_model_is_named_and_replaced(
    bench: Bench, controller: ModelReconciler
) -> None:
    """The failed registration holds its id: in training, with the error, until other content is published."""
    broken = echo("float32", ["N", 3])[:-20]
    await _post(bench, id="mine", model_uri=_file(bench, "broken.onnx", broken))
    failed = await _settled(bench, controller, "mine")
    assert (failed["status"], failed["error"]["code"]) == ("training", "invalid_onnx")
    assert _code(await _post(bench, id="mine", model_uri=URI)) == (409, "model_conflict")
    assert _code(await bench.create_deployment(model_uri="models://mine")) == (409, "model_not_ready")
    published = await _post(bench, "/mine/publish", model_uri=_file(bench, "whole.onnx", lookup()))
    assert (published.status_code, published.json()["status"], published.json()["error"]) == (
        200,
        "training",
        None,
    )
    assert (await _settled(bench, controller, "mine"))["status"] == "ready"


async def test_a_model_in_training_is_published_later(bench: Bench, controller: ModelReconciler) -> None:
    response = await _post(bench, id="later", status="training", description="Not there yet.")
    assert (response.status_code, response.json()["source_uri"]) == (201, None)
    assert (await _settled(bench, controller, "later"))["status"] == "training"
    uri = _file(bench, "later.onnx", lookup())
    published = (await _post(bench, "/later/publish", model_uri=uri)).json()
    assert (published["status"], published["source_uri"]) == ("training", uri)
    ready = await _settled(bench, controller, "later")
    assert (ready["status"], ready["description"]) == ("ready", "Not there yet.")


async def test_publishing_again_with_its_key_is_the_first_answer_again(
    bench: Bench, controller: ModelReconciler
) -> None:
    """Also once the model is ready: whoever lost the answer is told the same, whoever has no key the conflict."""
    await _post(bench, id="later", status="training")
    body = {"model_uri": _file(bench, "later.onnx", lookup()), "idempotency_key": "k"}
    first = await _post(bench, "/later/publish", **body)
    assert "idempotent-replayed" not in first.headers
    publication = (await bench.services.models.preparing())[0].publication
    for _ in range(2):
        again = await _post(bench, "/later/publish", **body)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert [each.publication for each in await bench.services.models.preparing()] in ([publication], [])
        await _settled(bench, controller, "later")
    del body["idempotency_key"]
    assert _code(await _post(bench, "/later/publish", **body)) == (409, "model_not_publishable")
    other = {"model_uri": URI, "idempotency_key": "k"}
    assert _code(await _post(bench, "/later/publish", **other)) == (409, "idempotency_key_reused")


async def test_simultaneous_publications_with_one_key_are_one(bench: Bench) -> None:
    """All are answered alike, and the model was given its source once."""
    await _post(bench, id="later", status="training")
    answers = await asyncio.gather(
        *(_post(bench, "/later/publish", model_uri=URI, idempotency_key="k") for _ in range(8))
    )
    assert {answer.content for answer in answers} == {answers[0].content}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert [each.publication for each in await bench.services.models.preparing()] == [1]


async def test_nothing_at_the_source_is_said_with_its_code(bench: Bench, controller: ModelReconciler) -> None:
    uri = _file(bench, "gone.onnx", b"").replace("gone", "never-there")
    await _post(bench, id="m", model_uri=uri)
    assert (await _settled(bench, controller, "m"))["error"]["code"] == "artifact_not_found"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body"),
        ({"id": "m"}, "body"),
        ({"id": "m", "status": "training", "model_uri": URI}, "body"),
        ({"status": "training"}, "id"),
        ({"id": "m", "status": "ready"}, "status"),
        ({"id": "m", "status": "archived"}, "status"),
        ({"id": "Not A Slug", "model_uri": URI}, "id"),
        ({"id": "", "model_uri": URI}, "id"),
        ({"id": 1, "model_uri": URI}, "id"),
        ({"id": "m", "model_uri": ""}, "model_uri"),
        ({"id": "m", "model_uri": URI, "description": 7}, "description"),
        ({"id": "m", "model_uri": URI, "description": "x" * 2001}, "description"),
        ({"id": "m", "model_uri": URI, "name": "m"}, "name"),
        ({"id": "m", "model_uri": URI, "sha256": "ab"}, "sha256"),
        ({"id": "m", "status": "training", "sha256": "0" * 64}, "body"),
        ({"model_uri": "https://a.example/"}, "id"),
        ({"model_uri": URI, "idempotency_key": ""}, "idempotency_key"),
    ],
)
async def test_a_body_that_does_not_fit_is_400(bench: Bench, body: dict[str, Any], path: str) -> None:
    response = await _post(bench, **body)
    assert _code(response) == (400, "invalid_request")
    assert _paths(response) == [path]
    assert await _ids(bench) == []


@pytest.mark.parametrize("body", [{}, {"model_uri": None}, {"model_uri": URI, "id": "m"}])
async def test_publishing_without_a_source_alone_is_400(bench: Bench, body: dict[str, Any]) -> None:
    await _post(bench, id="m", status="training")
    assert _code(await _post(bench, "/m/publish", **body)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "uri",
    [
        "models://digits",
        "fyre://models/digits",
        "s3://b/m.onnx",
        "file:///etc/m.onnx",
        "http://10.0.0.1/m.onnx",
    ],
)
@pytest.mark.parametrize("path", ["", "/m/publish"])
async def test_a_source_that_may_not_be_used_is_422(bench: Bench, uri: str, path: str) -> None:
    """A registered model is no source for another."""
    await bench.add_model("digits")
    await _post(bench, id="m", status="training")
    body = {"model_uri": uri} if path else {"model_uri": uri, "id": "other"}
    response = await _post(bench, path, **body)
    assert _code(response) == (422, "url_not_allowed")
    assert _paths(response) == ["model_uri"]


@pytest.mark.parametrize("owner", [DEMO_ORG, PUBLIC_ORG])
async def test_an_id_in_use_is_409(bench: Bench, owner: str) -> None:
    """By this organization or by a public model, whatever it was registered from."""
    await bench.add_model("digits", org=owner)
    assert _code(await _post(bench, id="digits", model_uri=URI)) == (409, "model_conflict")
    assert _code(await _post(bench, id="digits", status="training")) == (409, "model_conflict")
    assert _code(await _post(bench, model_uri="https://a.example/digits.onnx")) == (409, "model_conflict")


async def test_two_organizations_may_use_one_id(bench: Bench) -> None:
    await bench.add_model("mine", org="org_a", folder=DEMO_MODELS / "digits")
    assert (await _post(bench, id="mine", status="training")).status_code == 201


@pytest.mark.parametrize("body", [{"model_uri": URI}, {"id": "m", "status": "training"}])
async def test_sixty_four_at_once_make_one_model_and_equal_answers(
    bench: Bench, body: dict[str, Any]
) -> None:
    """The same key at once, again later, and with another body."""
    answers = await asyncio.gather(*(_post(bench, **body, idempotency_key="k") for _ in range(64)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await _ids(bench) == ["m"]
    await bench.services.store.redis.hset(keys.model(DEMO_ORG, "m"), "status", "archived")
    assert (await _post(bench, **body, idempotency_key="k")).content == answers[0].content
    other = await _post(bench, **body, description="Another.", idempotency_key="k")
    assert _code(other) == (409, "idempotency_key_reused")


async def test_a_key_in_the_header_counts_and_a_refused_one_is_free_again(bench: Bench) -> None:
    key = {"Idempotency-Key": "k"}
    await _post(bench, id="m", status="training")
    body = {"id": "m", "model_uri": URI}
    assert _code(await bench.request("POST", "/models", json=body, headers=key)) == (409, "model_conflict")
    body["id"] = "n"
    first = await bench.request("POST", "/models", json=body, headers=key)
    again = await bench.request("POST", "/models", json=body, headers=key)
    assert (first.status_code, first.content) == (201, again.content)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("status", ["ready", "archived"])
async def test_only_a_model_in_training_can_be_published(bench: Bench, status: str) -> None:
    await bench.add_model("digits", org=DEMO_ORG)
    if status == "archived":
        await _post(bench, "/digits/archive")
    response = await _post(bench, "/digits/publish", model_uri=URI)
    assert _code(response) == (409, "model_not_publishable")
    assert response.json()["error"]["details"] == {"status": status}


async def test_an_archived_model_is_kept_and_cannot_be_deployed(bench: Bench) -> None:
    """Archiving can be repeated; the resource stays."""
    await bench.add_model("digits", org=DEMO_ORG)
    answers = [await _post(bench, "/digits/archive") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json() == await _get(bench, "digits")
    assert (answers[0].json()["status"], answers[0].json()["signature"] is None) == ("archived", False)
    assert _code(await bench.create_deployment()) == (409, "model_not_ready")
    assert _code(await bench.predict("digits", [[0.0] * 64])) == (409, "model_not_ready")
    batch = await bench.request("POST", "/batch/digits", json={"input_url": "https://a.example/rows.csv"})
    assert _code(batch) == (409, "model_not_ready")


@pytest.mark.parametrize("status", ["ready", "training", "archived"])
async def test_the_source_of_a_model_that_is_not_ready_is_not_deployed_around_it(
    bench: Bench, status: str
) -> None:
    """The same file, with the model's id: what counts is the model."""
    await _post(bench, id="m", model_uri=URI)
    if status != "training":
        await bench.services.store.redis.hset(keys.model(DEMO_ORG, "m"), "status", "archived")
    if status == "ready":
        model = await bench.add_model("digits")
        fields = {"status": "ready", "artifact": str(model.artifact), "spec": "{}"}
        await bench.services.store.redis.hset(keys.model(DEMO_ORG, "m"), mapping=fields)
    response = await bench.create_deployment(model_uri=URI)
    assert response.status_code == (201 if status == "ready" else 409), response.text


@pytest.mark.parametrize("status", list(DeploymentStatus))
async def test_a_model_with_live_deployments_is_not_archived(bench: Bench, status: DeploymentStatus) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, status=status)
    response = await _post(bench, "/digits/archive")
    if status not in ("provisioning", "ready", "degraded"):
        assert (response.status_code, response.json()["status"]) == (200, "archived")
        return
    assert _code(response) == (409, "model_in_use")
    assert response.json()["error"]["details"] == {"deployments": [deployment.id]}
    assert (await _get(bench, "digits"))["status"] == "ready"
    await bench.request("DELETE", f"/deployments/{deployment.id}")
    assert (await _post(bench, "/digits/archive")).status_code == 200


async def test_archiving_and_deploying_at_once_never_both_succeed(bench: Bench) -> None:
    """Whichever comes first in the store decides, in every round."""
    for number in range(40):
        name = f"m{number}"
        await bench.add_model(name, org=DEMO_ORG, folder=DEMO_MODELS / "digits")
        calls = [bench.create_deployment(model_uri=f"models://{name}"), _post(bench, f"/{name}/archive")]
        if number % 2:
            calls.reverse()
        statuses = {answer.status_code for answer in await asyncio.gather(*calls)}
        live = [each for each in await bench.services.deployments.live() if each.model == name]
        is_archived = (await _get(bench, name))["status"] == "archived"
        assert is_archived is not bool(live)
        assert statuses == ({200, 409} if is_archived else {201, 409})


@pytest.mark.parametrize("action", ["publish", "archive"])
async def test_a_public_model_cannot_be_changed(bench: Bench, action: str) -> None:
    """The message says so to whoever could read the model; to others it is unknown."""
    await bench.add_model("digits")
    body = {"model_uri": URI} if action == "publish" else {}
    refused = await bench.request("POST", f"/models/digits/{action}", json=body)
    assert _code(refused) == (404, "model_not_found")
    assert "public" in refused.json()["error"]["message"]
    key = await bench.add_key("org_a", Scope.WRITE)
    options: dict[str, Any] = {"key": key, "json": body, "headers": FOREIGN}
    known = await bench.request("POST", f"/models/digits/{action}", **options)
    unknown = await bench.request("POST", f"/models/nothing/{action}", **options)
    assert (known.status_code, known.content) == (404, unknown.content)
    assert (await _get(bench, "digits"))["status"] == "ready"


@pytest.mark.parametrize("action", ["publish", "archive"])
async def test_another_organizations_model_is_unknown(bench: Bench, action: str) -> None:
    key = await bench.add_key("org_a")
    await _post(bench, key=key, id="theirs", status="training")
    options: dict[str, Any] = {"json": {"model_uri": URI} if action == "publish" else {}, "headers": FOREIGN}
    foreign = await bench.request("POST", f"/models/theirs/{action}", **options)
    unknown = await bench.request("POST", f"/models/nothing/{action}", **options)
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    theirs = await bench.services.models.get("org_a", "theirs")
    assert theirs is not None
    assert (theirs.status, theirs.source_uri) == (ModelStatus.TRAINING, None)


@pytest.mark.parametrize("path", ["/models", "/models/m/publish", "/models/m/archive"])
async def test_changing_models_needs_the_scope(bench: Bench, path: str) -> None:
    key = await bench.add_key(DEMO_ORG, Scope.READ, Scope.PREDICT)
    response = await bench.request("POST", path, key=key, json={"model_uri": URI})
    assert _code(response) == (403, "insufficient_scope")


async def test_lists_by_status_page_alike(bench: Bench) -> None:
    """Own and public models, newest first, every one once; a cursor of another status positions as well."""
    for number in range(9):
        await _post(bench, id=f"m{number}", status="training")
        if number % 3 == 0:
            await _post(bench, f"/m{number}/archive")
    await bench.add_model("digits")
    assert await _ids(bench, "status=ready") == ["digits"]
    assert await _ids(bench, "status=archived") == ["m6", "m3", "m0"]
    first = (await bench.request("GET", "/models?status=training&limit=4")).json()
    assert ([model["id"] for model in first["data"]], first["has_more"]) == (["m8", "m7", "m5", "m4"], True)
    last = (await bench.request("GET", "/models?status=training&limit=2&starting_after=m4")).json()
    assert ([model["id"] for model in last["data"]], last["has_more"]) == (["m2", "m1"], False)
    assert await _ids(bench, "status=training&starting_after=m3") == ["m2", "m1"]
    assert await _ids(bench, "status=archived&starting_after=digits") == ["m6", "m3", "m0"]


@pytest.mark.parametrize("query", ["status=", "status=live", "status=READY", "status=ready,archived"])
async def test_a_status_that_no_model_has_is_400(bench: Bench, query: str) -> None:
    response = await bench.request("GET", f"/models?{query}")
    assert _code(response) == (400, "invalid_request")
    assert _paths(response) == ["status"]
