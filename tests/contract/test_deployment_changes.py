"""`PATCH /deployments/{id}` and `max_wait_s`: what is wanted of a deployment, and what its resource shows of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.schemas.deployments import DeploymentResource
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

BOUNDS = {"min_replicas": 2, "max_replicas": 5}


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def _patch(bench: Bench, deployment: Deployment, **body: Any) -> Any:
    return await bench.request("PATCH", f"/deployments/{deployment.id}", json=body)


async def _stored(bench: Bench, deployment: Deployment) -> Deployment:
    found = await bench.services.deployments.get(deployment.org, deployment.id)
    assert found is not None
    return found


@pytest.mark.parametrize("status", LIVE_DEPLOYMENT)
async def test_what_is_desired_changes_at_once(bench: Bench, status: DeploymentStatus) -> None:
    """`ready` stays until replicas came or went; the rest is as it was; the change is an event."""
    deployment = await bench.deploy("digits", org=DEMO_ORG, status=status)
    path = f"/deployments/{deployment.id}"
    before = (await bench.request("GET", path)).json()
    response = await _patch(bench, deployment, replicas=3, traffic=25)
    changed = response.json()
    assert response.status_code == 200
    assert DeploymentResource.model_validate(changed)
    assert (changed["replicas"], changed["traffic"]) == ({"desired": 3, "ready": 1}, 25)
    assert changed["events"][-1]["message"] == "The caller asked for replicas 3, traffic 25."
    assert (await bench.request("GET", path)).json() == changed
    same = ("status", "stage", "model", "region", "autoscaling", "created", "error")
    assert {name: changed[name] for name in same} == {name: before[name] for name in same}
    assert (await _stored(bench, deployment)).stage_at == deployment.stage_at


async def test_traffic_takes_effect_in_the_routing_table(bench: Bench) -> None:
    """All to one, none to the other, and back."""
    first = await bench.deploy("digits", org=DEMO_ORG)
    second = await bench.deploy("digits", org=DEMO_ORG)
    for mine, other in ((first, second), (second, first)):
        await _patch(bench, mine, traffic=100)
        await _patch(bench, other, traffic=0)
        await bench.services.routes.refresh_if_changed()
        answers = [(await bench.predict("digits", [[0.0] * 64])).json() for _ in range(8)]
        assert {answer["usage"]["deployment"] for answer in answers} == {mine.id}


async def test_autoscaling_is_switched_on_changed_and_off(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, replicas=3)
    on = (await _patch(bench, deployment, autoscaling=BOUNDS)).json()
    assert (on["autoscaling"], on["replicas"]["desired"]) == (BOUNDS, 3)
    refused = await _patch(bench, deployment, replicas=4)
    assert _code(refused) == (409, "deployment_not_changeable")
    higher = {"min_replicas": 4, "max_replicas": 4}
    assert (await _patch(bench, deployment, autoscaling=higher)).json()["replicas"]["desired"] == 4
    off = (await _patch(bench, deployment, autoscaling=None)).json()
    assert (off["autoscaling"], off["replicas"]["desired"]) == (None, 3)
    assert [event["message"] for event in off["events"]][-3:] == [
        "The caller asked for 2 to 5 replicas by load.",
        "The caller asked for 4 to 4 replicas by load.",
        "The caller asked for autoscaling off.",
    ]


async def test_a_number_replaces_autoscaling_in_one_request(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, autoscaling=BOUNDS)
    changed = (await _patch(bench, deployment, autoscaling=None, replicas=4)).json()
    assert (changed["autoscaling"], changed["replicas"]["desired"]) == (None, 4)


async def test_autoscaling_starts_at_the_replicas_named_with_it(bench: Bench) -> None:
    """Whatever Serve aimed at before. Named again with bounds that stay, they change nothing but what comes after."""
    await bench.add_model("digits")
    made = (await bench.create_deployment(replicas=4, autoscaling=BOUNDS)).json()
    assert (made["replicas"]["desired"], made["autoscaling"]) == (4, BOUNDS)
    deployment = await bench.deploy("digits", org=DEMO_ORG, target_replicas=1)
    on = (await _patch(bench, deployment, replicas=3, autoscaling=BOUNDS)).json()
    assert on["replicas"]["desired"] == 3
    same = (await _patch(bench, deployment, replicas=5, autoscaling=BOUNDS)).json()
    assert same["replicas"]["desired"] == 3
    off = (await _patch(bench, deployment, autoscaling=None)).json()
    assert off["replicas"]["desired"] == 5


@pytest.mark.parametrize("replicas", [1, 6])
async def test_replicas_outside_the_bounds_they_come_with_are_400(bench: Bench, replicas: int) -> None:
    """At a creation and at a change."""
    await bench.add_model("digits")
    deployment = await bench.deploy("digits", org=DEMO_ORG)
    fields = {"replicas": replicas, "autoscaling": BOUNDS}
    for response in (await bench.create_deployment(**fields), await _patch(bench, deployment, **fields)):
        assert _code(response) == (400, "invalid_request")
        (field,) = response.json()["error"]["details"]["fields"]
        assert field["path"] == "replicas"
        assert "min_replicas" in field["message"]
    assert await _stored(bench, deployment) == deployment


async def test_none_may_be_the_fewest(bench: Bench) -> None:
    """At a creation, which starts with one, and at a change."""
    sleepy = {"min_replicas": 0, "max_replicas": 2}
    await bench.add_model("digits")
    made = (await bench.create_deployment(autoscaling=sleepy)).json()
    assert (made["replicas"]["desired"], made["autoscaling"]) == (1, sleepy)
    deployment = await bench.deploy("digits", org=DEMO_ORG, replicas=2)
    changed = (await _patch(bench, deployment, autoscaling=sleepy)).json()
    assert (changed["replicas"]["desired"], changed["autoscaling"]) == (2, sleepy)
    assert changed["events"][-1]["message"] == "The caller asked for 0 to 2 replicas by load."


async def test_a_deployment_that_sleeps_is_ready(bench: Bench) -> None:
    """No replica runs and none is wanted until somebody calls; the prediction that does is answered."""
    sleepy = {"min_replicas": 0, "max_replicas": 2}
    deployment = await bench.deploy(
        "digits", org=DEMO_ORG, autoscaling=sleepy, ready_replicas=0, target_replicas=0
    )
    shown = (await bench.request("GET", f"/deployments/{deployment.id}")).json()
    assert (shown["status"], shown["replicas"]) == ("ready", {"desired": 0, "ready": 0})
    await bench.services.routes.refresh_if_changed()
    answer = await bench.predict("digits", [[0.0] * 64])
    assert answer.status_code == 200
    assert answer.json()["usage"]["deployment"] == deployment.id


async def test_what_serve_aims_at_is_shown_while_it_scales_by_load(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, autoscaling=BOUNDS, target_replicas=4)
    path = f"/deployments/{deployment.id}"
    assert (await bench.request("GET", path)).json()["replicas"]["desired"] == 4


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body"),
        ({"replicas": None}, "replicas"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 1001}, "replicas"),
        ({"replicas": "2"}, "replicas"),
        ({"replicas": 2.0}, "replicas"),
        ({"replicas": True}, "replicas"),
        ({"traffic": None}, "traffic"),
        ({"traffic": -1}, "traffic"),
        ({"traffic": 101}, "traffic"),
        ({"autoscaling": {}}, "autoscaling.min_replicas"),
        ({"autoscaling": {"min_replicas": -1, "max_replicas": 1}}, "autoscaling.min_replicas"),
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 0}}, "autoscaling.max_replicas"),
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 1}, "replicas": 0}, "replicas"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "autoscaling"),
        ({"autoscaling": False}, "autoscaling"),
        ({"region": "us-west-2"}, "region"),
        ({"replica": 2}, "replica"),
    ],
)
async def test_a_change_that_does_not_fit_is_400_and_changes_nothing(
    bench: Bench, body: dict[str, Any], path: str
) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG)
    response = await _patch(bench, deployment, **body)
    assert _code(response) == (400, "invalid_request")
    assert response.json()["error"]["details"]["fields"][0]["path"] == path
    assert await _stored(bench, deployment) == deployment


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("failed", (409, "deployment_not_changeable")),
        ("draining", (404, "deployment_not_found")),
        ("deleted", (404, "deployment_not_found")),
    ],
)
async def test_what_is_over_does_not_change(bench: Bench, status: str, expected: tuple[int, str]) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG, status=DeploymentStatus(status))
    assert _code(await _patch(bench, deployment, traffic=1)) == expected
    assert await _stored(bench, deployment) == deployment


async def test_deleting_and_changing_at_once_leaves_it_deleted(bench: Bench) -> None:
    """Whichever comes first: nothing brings it back, and no answer is a 5xx."""
    for _ in range(20):
        deployment = await bench.deploy("digits", org=DEMO_ORG)
        deleted, changed = await asyncio.gather(
            bench.request("DELETE", f"/deployments/{deployment.id}"), _patch(bench, deployment, replicas=2)
        )
        assert (deleted.status_code, changed.status_code in (200, 404)) == (200, True)
        assert (await _stored(bench, deployment)).status is DeploymentStatus.DRAINING


async def test_another_organizations_deployment_is_unknown_to_a_change(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org="org_a")
    options: dict[str, Any] = {"json": {"replicas": 2}, "headers": {"x-request-id": "same"}}
    foreign = await bench.request("PATCH", f"/deployments/{deployment.id}", **options)
    unknown = await bench.request("PATCH", "/deployments/dep_01M82CZBDNTDTBGWDT4TW34HQ4", **options)
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    assert await _stored(bench, deployment) == deployment


async def test_a_public_deployment_is_named_as_such_and_not_changed(bench: Bench) -> None:
    deployment = await bench.deploy("digits")
    refused = await _patch(bench, deployment, replicas=2)
    assert _code(refused) == (404, "deployment_not_found")
    assert "cannot change it" in refused.json()["error"]["message"]
    assert await _stored(bench, deployment) == deployment


async def test_a_change_needs_the_scope(bench: Bench) -> None:
    deployment = await bench.deploy("digits", org=DEMO_ORG)
    key = await bench.add_key(DEMO_ORG, Scope.READ)
    response = await bench.request("PATCH", f"/deployments/{deployment.id}", key=key, json={"replicas": 2})
    assert _code(response) == (403, "insufficient_scope")


@pytest.mark.parametrize("max_wait_s", [None, 1, 3600])
async def test_how_long_to_wait_for_capacity_is_kept(bench: Bench, max_wait_s: int | None) -> None:
    await bench.add_model("digits")
    created = await bench.create_deployment(max_wait_s=max_wait_s)
    assert (created.status_code, created.json()["max_wait_s"]) == (201, max_wait_s)
    stored = await bench.services.deployments.get(DEMO_ORG, created.json()["id"])
    assert stored is not None
    assert stored.max_wait_s == max_wait_s


@pytest.mark.parametrize("max_wait_s", [0, 3601, 1.5, "60", True])
async def test_a_wait_that_does_not_fit_is_400(bench: Bench, max_wait_s: Any) -> None:
    await bench.add_model("digits")
    response = await bench.create_deployment(max_wait_s=max_wait_s)
    assert _code(response) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("fields", "is_chosen"),
    [({}, False), ({"replicas": 1}, True), ({"autoscaling": None}, True), ({"traffic": 5}, False)],
)
async def test_a_scale_that_was_asked_for_is_not_the_manifests_to_decide(
    bench: Bench, fields: dict[str, Any], is_chosen: bool
) -> None:
    """The default is: a caller who says nothing of it leaves it to the package."""
    await bench.add_model("digits")
    created = await bench.create_deployment(**fields)
    stored = await bench.services.deployments.get(DEMO_ORG, created.json()["id"])
    assert stored is not None
    assert stored.is_scale_chosen is is_chosen


async def test_a_change_is_decided_on_what_it_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autoscaling was switched on between the look and the change: replicas alone are refused, as they would be now."""
    made = await bench.deploy("digits", org=DEMO_ORG)
    store = bench.services.deployments
    change = type(store).change

    async def overtaken(self: Any, deployment: Deployment, values: Any, *, message: str) -> bool:
        monkeypatch.setattr(type(store), "change", change)
        await change(self, deployment, {"autoscaling": BOUNDS}, message="Another was faster.")
        return await change(self, deployment, values, message=message)

    monkeypatch.setattr(type(store), "change", overtaken)
    response = await _patch(bench, made, replicas=3)
    assert _code(response) == (409, "deployment_not_changeable")
    assert (await _stored(bench, made)).replicas == 1


async def test_a_change_that_is_always_overtaken_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so instead of trying for ever."""
    made = await bench.deploy("digits", org=DEMO_ORG)
    store = bench.services.deployments
    change = type(store).change

    async def overtaken(self: Any, deployment: Deployment, values: Any, *, message: str) -> bool:
        await change(self, deployment, {"traffic": 1}, message="Another was faster.")
        return await change(self, deployment, values, message=message)

    monkeypatch.setattr(type(store), "change", overtaken)
    assert _code(await _patch(bench, made, replicas=3)) == (409, "deployment_not_changeable")


async def test_simultaneous_changes_are_all_made(bench: Bench) -> None:
    """One after the other."""
    made = await bench.deploy("digits", org=DEMO_ORG)
    answers = await asyncio.gather(*(_patch(bench, made, traffic=each) for each in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await _stored(bench, made)).revision == 5
