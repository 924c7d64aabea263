"""`GET /models`, `GET /models/{id}`, and pages over slugs."""

from __future__ import annotations

from typing import Any

import pytest

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import DEMO_ORG
from fyretoolkit.schemas.models import ModelResource
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio


async def _register(bench: Bench, name: str, org: str = DEMO_ORG, **fields: Any) -> None:
    record = Model(name, org, ModelStatus.TRAINING, 1, new_id("mdl"), **fields)
    await bench.services.models.register(record)


async def test_a_model_shows_its_signature_artifact_and_deployments(bench: Bench) -> None:
    deployment = await bench.deploy("digits")
    response = await bench.request("GET", "/models/digits")
    model = ModelResource.model_validate(response.json())
    assert (response.status_code, model.status, model.deployments) == (200, "ready", [deployment.id])
    assert model.signature is not None
    assert model.signature.inputs[0].model_dump() == {
        "name": "pixels",
        "dtype": "float32",
        "shape": [None, 64],
    }
    assert len(model.sha256 or "") == 64
    assert model.size_bytes > 0
    assert model.source_uri == "models://digits"


@pytest.mark.parametrize("status", list(DeploymentStatus))
async def test_a_model_lists_the_deployments_that_serve_it_or_will(
    bench: Bench, status: DeploymentStatus
) -> None:
    """Failed and draining ones were listed; while no own one takes traffic, those of the public model answer."""
    public = await bench.deploy("digits")
    own = await bench.deploy("digits", org=DEMO_ORG, status=status)
    serving = {"provisioning": [own.id, public.id], "ready": [own.id], "degraded": [own.id]}
    model = (await bench.request("GET", "/models/digits")).json()
    assert model["deployments"] == serving.get(status, [public.id])


async def test_a_model_in_training_has_no_signature(bench: Bench) -> None:
    await _register(bench, "later")
    model = (await bench.request("GET", "/models/later")).json()
    assert (model["status"], model["signature"], model["sha256"]) == ("training", None, None)


async def test_pages_are_newest_first_and_hold_every_model_once(bench: Bench) -> None:
    for number in range(7):
        await _register(bench, f"m{number}", org="org_public" if number % 2 else DEMO_ORG)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = (await bench.request("GET", "/models", params=query)).json()
        seen += [model["id"] for model in page["data"]]
        if not page["has_more"]:
            break
        query["starting_after"] = seen[-1]
    assert seen == [f"m{number}" for number in reversed(range(7))]


async def test_has_more_is_false_when_the_last_page_is_full(bench: Bench) -> None:
    for name in ("a", "b"):
        await _register(bench, name)
    page = (await bench.request("GET", "/models?limit=2")).json()
    assert (page["object"], len(page["data"]), page["has_more"]) == ("list", 2, False)


async def test_the_default_page_holds_twenty(bench: Bench) -> None:
    for number in range(21):
        await _register(bench, f"m{number}")
    page = (await bench.request("GET", "/models")).json()
    assert (len(page["data"]), page["has_more"]) == (20, True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=5.0",
        "limit=1_0",
        "limit=%2B5",
        "limt=5",
    ],
)
@pytest.mark.parametrize("path", ["/models", "/deployments", "/jobs"])
async def test_a_query_outside_the_contract_is_400(bench: Bench, path: str, query: str) -> None:
    response = await bench.request("GET", f"{path}?{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert response.json()["error"]["details"]["fields"][0]["path"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/models", "/deployments", "/jobs"])
@pytest.mark.parametrize(
    "cursor", ["", "nothing-of-ours", "dep_1", "a:b", "model_01M82CZBDNTDTBGWDT4TW34HQ4"]
)
async def test_an_id_that_cannot_be_one_of_the_list_is_400(bench: Bench, path: str, cursor: str) -> None:
    response = await bench.request("GET", path, params={"starting_after": cursor})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "path", ["/models/{}", "/deployments/{}", "/jobs/{}", "/jobs/{}/output", "/jobs/{}/errors"]
)
@pytest.mark.parametrize(
    "name", ["nothing", "a:b", "A", "*", "x" * 300, "dep_01M82CZBDNTDTBGWDT4TW34HQ4:events"]
)
async def test_an_unknown_id_is_404_whatever_its_shape(bench: Bench, path: str, name: str) -> None:
    response = await bench.request("GET", path.format(name))
    kind = {"models": "model", "deployments": "deployment", "jobs": "job"}[path.split("/")[1]]
    assert (response.status_code, response.json()["error"]["code"]) == (404, f"{kind}_not_found")


async def test_another_organizations_models_do_not_show(bench: Bench) -> None:
    await _register(bench, "theirs", org="org_a")
    assert (await bench.request("GET", "/models")).json()["data"] == []
    foreign = await bench.request("GET", "/models/theirs", headers={"x-request-id": "same"})
    unknown = await bench.request("GET", "/models/nothing", headers={"x-request-id": "same"})
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    cursor = await bench.request("GET", "/models", params={"starting_after": "theirs"})
    assert cursor.json()["error"]["code"] == "invalid_cursor"
