"""`/deployments`."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG, Scope
from fyretoolkit.schemas.deployments import DeploymentResource
from fyretoolkit.store import keys
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def _set_status(bench: Bench, deployment_id: str, status: DeploymentStatus) -> None:
    deployment = await bench.services.deployments.get(DEMO_ORG, deployment_id)
    assert deployment is not None
    assert await bench.services.deployments.transition(deployment, status, message="The test says so.")


async def test_a_deployment_is_accepted_at_once_as_provisioning(bench: Bench) -> None:
    model = await bench.add_model("digits")
    response = await bench.create_deployment(replicas=2, traffic=50, num_gpus=1)
    resource = DeploymentResource.model_validate(response.json())
    assert response.status_code == 201
    assert response.headers["location"] == f"/deployments/{resource.id}"
    assert (resource.status, resource.stage) == ("provisioning", "fetching")
    assert (resource.model, resource.model_uri) == ("digits", "models://digits")
    assert resource.replicas.model_dump() == {"desired": 2, "ready": 0}
    assert (resource.traffic, resource.num_gpus, resource.error) == (50, 1.0, None)
    assert (resource.endpoint, resource.application) == ("/predict/digits", resource.id)
    stored = await bench.services.deployments.get(DEMO_ORG, resource.id)
    assert stored is not None
    assert (stored.artifact, stored.spec) == (model.artifact, model.spec)


async def test_a_deployment_can_be_read_with_its_events(bench: Bench) -> None:
    await bench.add_model("digits")
    created = (await bench.create_deployment()).json()
    deployment = await bench.services.deployments.get(DEMO_ORG, created["id"])
    assert deployment is not None
    epoch = await bench.services.deployments.new_controller_epoch()
    await bench.services.deployments.advance(deployment, Stage.STARTING, epoch=epoch, message="Starting.")
    found = (await bench.request("GET", f"/deployments/{created['id']}")).json()
    assert [event["message"] for event in found["events"]] == ["The request was accepted.", "Starting."]
    assert found["stage"] == "starting"
    assert found.keys() == created.keys()


async def test_batching_is_shown_once_it_was_measured(bench: Bench) -> None:
    """As the record has it; null before."""
    batching = {
        "max_batch_size": 1,
        "reason": "depends_on_company",
        "rows_per_s": {"1": 120.5, "2": 241.0},
        "max_difference": 0.0312,
    }
    for known in (None, batching):
        deployment = await bench.deploy("digits", org=DEMO_ORG, batching=known)
        shown = (await bench.request("GET", f"/deployments/{deployment.id}")).json()
        assert shown["batching"] == known


async def test_a_failure_shows_its_code(bench: Bench) -> None:
    error = {"code": "invalid_onnx", "message": "The file is not a valid ONNX model."}
    deployment = await bench.deploy("digits", org=DEMO_ORG, status=DeploymentStatus.FAILED, error=error)
    found = (await bench.request("GET", f"/deployments/{deployment.id}")).json()
    assert (found["status"], found["error"]["code"]) == ("failed", "invalid_onnx")


async def test_an_unknown_region_is_422_listing_the_known_ones(bench: Bench) -> None:
    response = await bench.create_deployment(region="mars-1")
    assert _code(response) == (422, "invalid_region")
    assert response.json()["error"]["details"]["regions"] == [
        "ap-southeast-1", "eu-west-1", "us-east-1", "us-west-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model_uri": None}, "model_uri"),
        ({"region": 1}, "region"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": "2"}, "replicas"),
        ({"replicas": True}, "replicas"),
        ({"traffic": 101}, "traffic"),
        ({"num_gpus": -1}, "num_gpus"),
        ({"num_gpus": "1"}, "num_gpus"),
        ({"num_gpus": True}, "num_gpus"),
        ({"num_gpus": 1.5}, "num_gpus"),
        ({"num_gpus": 0.00009}, "num_gpus"),
        ({"accelerator_type": "A100"}, "accelerator_type"),
        ({"accelerator_type": "A100", "num_gpus": 0}, "accelerator_type"),
        ({"accelerator_type": "", "num_gpus": 1}, "accelerator_type"),
        ({"accelerator_type": "A 100", "num_gpus": 1}, "accelerator_type"),
        ({"accelerator_type": "A" * 64, "num_gpus": 1}, "accelerator_type"),
        ({"accelerator_type": 100, "num_gpus": 1}, "accelerator_type"),
        ({"accelerator_type": "A100", "num_gpus": 1.5}, "num_gpus"),
        ({"model_id": "Not A Slug"}, "model_id"),
        ({"autoscaling": {"min_replicas": 2, "max_replicas": 1}}, "autoscaling"),
        ({"autoscaling": {"min_replicas": 1}}, "autoscaling.max_replicas"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"sha256": "g" * 64}, "sha256"),
        ({"sha256": "０" * 64}, "sha256"),
        ({"sha256": 0}, "sha256"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
    ],
)
async def test_a_field_that_does_not_fit_is_400_and_named(
    bench: Bench, fields: dict[str, Any], path: str
) -> None:
    await bench.add_model("digits")
    response = await bench.create_deployment(**fields)
    assert _code(response) == (400, "invalid_request")
    assert [field["path"] for field in response.json()["error"]["details"]["fields"]] == [path]


@pytest.mark.parametrize("field", ["model_uri", "region"])
async def test_a_missing_field_is_400_and_named(bench: Bench, field: str) -> None:
    body = {"model_uri": "models://digits", "region": "us-east-1"}
    del body[field]
    response = await bench.request("POST", "/deployments", json=body)
    assert response.json()["error"]["details"]["fields"][0]["path"] == field


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/model.onnx",
        "gs://bucket/model.onnx",
        "ftp://a.example/model.onnx",
        "file:///etc/model.onnx",
        "http://169.254.169.254/model.onnx",
        "http://10.0.0.1/model.onnx",
        "http://user:password@a.example/model.onnx",
        "https://a.example:22/model.onnx",
        "not a uri",
    ],
)
async def test_a_source_that_may_not_be_fetched_is_422(bench: Bench, uri: str) -> None:
    response = await bench.create_deployment(model_uri=uri)
    assert _code(response) == (422, "url_not_allowed")
    assert [each["path"] for each in response.json()["error"]["details"]["fields"]] == ["model_uri"]


@pytest.mark.parametrize("num_gpus", [0, 0.0001, 0.25, 1, 1.0, 2, 2.0])
async def test_shares_of_one_gpu_and_whole_gpus_are_accepted(bench: Bench, num_gpus: float) -> None:
    await bench.add_model("digits")
    response = await bench.create_deployment(num_gpus=num_gpus)
    assert (response.status_code, response.json()["num_gpus"]) == (201, num_gpus)


async def test_a_kind_of_gpu_is_kept_and_shown(bench: Bench) -> None:
    """And told from a deployment that may run on any."""
    await bench.add_model("digits")
    created = (await bench.create_deployment(num_gpus=0.5, accelerator_type="RTX-PRO-6000")).json()
    shown = (await bench.request("GET", f"/deployments/{created['id']}")).json()
    assert (shown["num_gpus"], shown["accelerator_type"]) == (0.5, "RTX-PRO-6000")
    assert (await bench.create_deployment(num_gpus=1)).json()["accelerator_type"] is None


async def test_no_gpu_is_told_from_nothing_said(bench: Bench) -> None:
    """What the caller leaves open, the model's manifest decides; both are shown as none until it is read."""
    await bench.add_model("digits")
    kept = []
    for fields in ({}, {"num_gpus": None}, {"num_gpus": 0}):
        created = (await bench.create_deployment(**fields)).json()
        assert created["num_gpus"] == 0.0
        stored = await bench.services.deployments.get(DEMO_ORG, created["id"])
        assert stored is not None
        kept.append(stored.num_gpus)
    assert kept == [None, None, 0.0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My%20Model.onnx", "my-model"),
        ("b%C3%BCro.onnx", "b-ro"),
        ("a%2Fb.tar%2Egz", "a-b"),
        ("50%2520.onnx", "50-20"),
    ],
)
async def test_an_escaped_file_name_gives_the_id_of_the_name_it_stands_for(
    bench: Bench, name: str, expected: str
) -> None:
    """`My%20Model.onnx` became my-20model."""
    response = await bench.create_deployment(model_uri=f"https://a.example/v1/{name}?token=x%20y")
    assert (response.status_code, response.json()["model"]) == (201, expected)


@pytest.mark.parametrize("uri", ["models://digits", "fyre://models/digits"])
async def test_a_registered_model_is_named_in_two_ways(bench: Bench, uri: str) -> None:
    await bench.add_model("digits")
    assert (await bench.create_deployment(model_uri=uri)).json()["model_uri"] == "models://digits"


async def test_an_unknown_model_is_404(bench: Bench) -> None:
    assert _code(await bench.create_deployment(model_uri="models://nothing")) == (404, "model_not_found")
    assert _code(await bench.create_deployment(model_uri="models://")) == (404, "model_not_found")


@pytest.mark.parametrize("status", [ModelStatus.TRAINING, ModelStatus.ARCHIVED])
async def test_a_model_that_is_not_ready_is_409(bench: Bench, status: ModelStatus) -> None:
    await bench.add_model("digits")
    await bench.services.store.redis.hset(keys.model(PUBLIC_ORG, "digits"), "status", status)
    response = await bench.create_deployment()
    assert _code(response) == (409, "model_not_ready")
    assert response.json()["error"]["details"] == {"status": status}


@pytest.mark.parametrize(
    ("file_name", "model_id", "expected"),
    [
        ("Digits Forest.onnx", None, "digits-forest"),
        ("digits_forest.onnx", None, "digits-forest"),
        ("model.v2.tar.gz", None, "model.v2"),
        ("folder", None, "folder"),
        ("digits.onnx", "mine", "mine"),
    ],
)
async def test_a_new_source_takes_its_id_from_the_request_or_the_file_name(
    bench: Bench, file_name: str, model_id: str | None, expected: str
) -> None:
    folder = bench.services.settings.egress.development_file_roots[0]
    uri = f"file://{folder}/{file_name.replace(' ', '%20')}"
    fields = {"model_id": model_id} if model_id else {}
    response = await bench.create_deployment(model_uri=uri, **fields)
    assert (response.status_code, response.json()["model"]) == (201, expected)
    stored = await bench.services.deployments.get(DEMO_ORG, response.json()["id"])
    assert stored is not None
    assert stored.is_model_id_chosen is (model_id is not None)


async def test_an_id_in_use_by_other_content_is_409(bench: Bench) -> None:
    await bench.add_model("digits")
    response = await bench.create_deployment(model_uri="https://a.example/digits.onnx")
    assert _code(response) == (409, "model_conflict")
    named = await bench.create_deployment(model_uri="https://a.example/x.zip", model_id="digits")
    assert _code(named) == (409, "model_conflict")


async def test_the_list_is_newest_first_and_pages(bench: Bench) -> None:
    await bench.add_model("digits")
    made = [(await bench.create_deployment()).json()["id"] for _ in range(5)]
    first = (await bench.request("GET", "/deployments?limit=2")).json()
    second = (await bench.request("GET", f"/deployments?limit=2&starting_after={made[3]}")).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == ([made[4], made[3]], True)
    assert ([each["id"] for each in second["data"]], second["has_more"]) == ([made[2], made[1]], True)


async def test_a_cursor_survives_the_deletion_of_its_object(bench: Bench) -> None:
    await bench.add_model("digits")
    made = [(await bench.create_deployment()).json()["id"] for _ in range(3)]
    await bench.request("DELETE", f"/deployments/{made[1]}")
    await _set_status(bench, made[1], DeploymentStatus.DELETED)
    page = (await bench.request("GET", f"/deployments?starting_after={made[1]}")).json()
    assert [each["id"] for each in page["data"]] == [made[0]]


async def test_deleted_deployments_leave_the_list_and_do_not_shorten_its_pages(bench: Bench) -> None:
    await bench.add_model("digits")
    made = [(await bench.create_deployment()).json()["id"] for _ in range(6)]
    for name in made[2:5]:
        await bench.request("DELETE", f"/deployments/{name}")
    page = (await bench.request("GET", "/deployments?limit=2")).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([made[5], made[1]], True)


async def test_deleting_answers_the_same_twice_and_stops_the_traffic(bench: Bench) -> None:
    deployment = await bench.deploy("sentiment-v1", org=DEMO_ORG)
    assert (await bench.predict("sentiment-v1", ["a"])).status_code == 200
    answers = [await bench.request("DELETE", f"/deployments/{deployment.id}") for _ in range(2)]
    assert [answer.json() for answer in answers] == [
        {"id": deployment.id, "object": "deployment", "deleted": True}
    ] * 2
    assert {answer.status_code for answer in answers} == {200}
    await bench.services.routes.refresh_if_changed()
    assert _code(await bench.predict("sentiment-v1", ["a"])) == (409, "model_not_ready")


async def test_a_deleted_deployment_is_gone_but_its_deletion_is_repeatable(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG)
    path = f"/deployments/{deployment.id}"
    await bench.request("DELETE", path)
    assert (await bench.request("GET", path)).json()["status"] == "draining"
    await _set_status(bench, deployment.id, DeploymentStatus.DELETED)
    assert _code(await bench.request("GET", path)) == (404, "deployment_not_found")
    assert (await bench.request("DELETE", path)).json()["deleted"] is True
    await bench.services.store.redis.delete(keys.deployment(DEMO_ORG, deployment.id))
    assert _code(await bench.request("DELETE", path)) == (404, "deployment_not_found")


@pytest.mark.parametrize("status", list(DeploymentStatus))
async def test_a_deployment_can_be_deleted_in_every_status(bench: Bench, status: DeploymentStatus) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, status=status)
    response = await bench.request("DELETE", f"/deployments/{deployment.id}")
    assert (response.status_code, response.json()["deleted"]) == (200, True)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_another_organizations_deployment_is_unknown(bench: Bench, method: str) -> None:
    deployment = await bench.deploy("digits", org="org_a")
    same_id = {"x-request-id": "same"}
    foreign = await bench.request(method, f"/deployments/{deployment.id}", headers=same_id)
    unknown = await bench.request(method, "/deployments/dep_01M82CZBDNTDTBGWDT4TW34HQ4", headers=same_id)
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    still = await bench.services.deployments.get("org_a", deployment.id)
    assert still is not None
    assert still.status is DeploymentStatus.READY


async def test_a_public_models_deployment_is_readable_and_not_deletable(bench: Bench) -> None:
    deployment = await bench.deploy("digits")
    path = f"/deployments/{deployment.id}"
    assert (await bench.request("GET", path)).json()["model"] == "digits"
    refused = await bench.request("DELETE", path)
    assert _code(refused) == (404, "deployment_not_found")
    assert "public model" in refused.json()["error"]["message"]
    assert (await bench.request("GET", "/deployments")).json()["data"] == []


async def test_a_key_that_cannot_read_learns_nothing_of_a_public_deployment(bench: Bench) -> None:
    deployment = await bench.deploy("digits")
    key = await bench.add_key("org_a", Scope.WRITE)
    options: dict[str, Any] = {"key": key, "headers": {"x-request-id": "same"}}
    known = await bench.request("DELETE", f"/deployments/{deployment.id}", **options)
    unknown = await bench.request("DELETE", "/deployments/dep_01M82CZBDNTDTBGWDT4TW34HQ4", **options)
    assert (known.status_code, known.content) == (404, unknown.content)
