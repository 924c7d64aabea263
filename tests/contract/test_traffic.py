"""New deployments of a model beside old ones: who answers when the new one fails, promotion and rollback."""

from __future__ import annotations

import asyncio
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support import onnx_graphs
from tests.support.api_bench import Bench, InProcessCall
from tests.support.model_packages import write_package

pytestmark = pytest.mark.anyio

DIGIT = [[0.0] * 64]


async def pair(
    bench: Bench, *, old: int = 60, new: int = 40, **changes: Any
) -> tuple[Deployment, Deployment]:
    """The incumbent and a canary of the same model, both ready."""
    incumbent = await bench.deploy("digits", org=DEMO_ORG, traffic=old)
    return incumbent, await bench.deploy("digits", org=DEMO_ORG, traffic=new, **changes)


class Broken:
    """What a replica does whose every run is a defect."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("a defect")


def breaking(bench: Bench, deployment: Deployment) -> None:
    """From now on its replicas answer nothing but defects."""
    bench.call.runners[deployment.id] = Broken()  # type: ignore[assignment]


def hanging(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    """From now on its replicas do not answer."""
    answer = InProcessCall.__call__

    async def hang(call: InProcessCall, application: str, *arguments: Any) -> Any:
        if application == deployment.id:
            await asyncio.sleep(60)
        return await answer(call, application, *arguments)

    monkeypatch.setattr(InProcessCall, "__call__", hang)


def in_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on either of a pair of deployments is chosen first for every other prediction."""
    draws = cycle((0.1, 0.9))
    monkeypatch.setattr(bench.services.routes, "_draw", lambda: next(draws))


async def totals(bench: Bench, deployment: Deployment) -> tuple[int, int, dict[str, int]]:
    """Of its metrics: succeeded, failed, errors by code."""
    await bench.services.recorder.flush()
    found = (await bench.request("GET", f"/metrics/{deployment.id}")).json()["metrics"]
    return found["requests"]["succeeded"], found["requests"]["failed"], found["errors"]["by_code"]


async def test_what_a_canary_fails_at_the_incumbent_answers(bench: Bench) -> None:
    """No caller sees it, and the metrics say whose fault it was."""
    incumbent, canary = await pair(bench)
    breaking(bench, canary)
    answers = [await bench.predict("digits", DIGIT) for _ in range(40)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["usage"]["deployment"] for answer in answers} == {incumbent.id}
    succeeded, failed, codes = await totals(bench, canary)
    assert succeeded == 0
    assert failed > 0
    assert codes == {"internal_error": failed}
    assert await totals(bench, incumbent) == (40, 0, {})


async def test_an_incumbent_is_not_helped_by_a_canary(bench: Bench) -> None:
    """It is the one that is trusted: its failure is the caller's answer."""
    incumbent, canary = await pair(bench)
    breaking(bench, incumbent)
    answers = [await bench.predict("digits", DIGIT) for _ in range(40)]
    assert {answer.status_code for answer in answers} == {200, 500}
    assert {answer.json()["usage"]["deployment"] for answer in answers if answer.status_code == 200} == {
        canary.id
    }


async def test_a_canary_that_hangs_leaves_time_for_the_incumbent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has half of the caller's time."""
    incumbent, canary = await pair(bench, old=51, new=49)
    hanging(monkeypatch, canary)
    in_turn(bench, monkeypatch)
    for _ in range(4):
        found = await bench.predict("digits", DIGIT, options={"timeout_ms": 2000})
        assert found.status_code == 200, found.text
        assert found.json()["usage"]["deployment"] == incumbent.id
    _, failed, codes = await totals(bench, canary)
    assert codes == {"deadline_exceeded": failed}
    assert failed == 2


async def test_rows_that_a_canary_cannot_run_are_run_by_the_incumbent(bench: Bench, tmp_path: Path) -> None:
    """A new version that takes other inputs, asked to go on at errors: no item of the answer is one."""
    folder = tmp_path / "digits"
    write_package(folder, onnx_graphs.echo("float32", ["N", 3], name="pixels"))
    incumbent = await bench.deploy("digits", org=DEMO_ORG, traffic=60)
    other = await bench.add_model("other", org=DEMO_ORG, folder=folder)
    canary = await bench.deploy("digits", org=DEMO_ORG, traffic=40, artifact=other.artifact, spec=other.spec)
    for _ in range(20):
        found = await bench.predict("digits", DIGIT, options={"on_error": "continue"})
        assert [("label" in item) for item in found.json()["results"]] == [True]
    _, failed, codes = await totals(bench, canary)
    assert codes == {"invalid_input": failed}
    assert (await totals(bench, incumbent))[0] == 20


async def test_what_nobody_can_answer_is_the_callers_error(bench: Bench) -> None:
    """As the incumbent says it."""
    await pair(bench)
    answers = [await bench.predict("digits", [["no number"]]) for _ in range(10)]
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (422, "invalid_input")
    }


async def test_a_promotion_and_its_undoing(bench: Bench) -> None:
    """Each is one call, seen by the next prediction; both deployments tell of it."""
    incumbent, canary = await pair(bench, old=90, new=10)
    promoted = await bench.request("POST", f"/deployments/{canary.id}/promote")
    assert (promoted.status_code, promoted.json()["traffic"]) == (200, 100)
    await bench.services.routes.refresh_if_changed()
    answers = [(await bench.predict("digits", DIGIT)).json() for _ in range(8)]
    assert {answer["usage"]["deployment"] for answer in answers} == {canary.id}
    back = await bench.request("POST", f"/deployments/{canary.id}/rollback")
    assert (back.status_code, back.json()["traffic"]) == (200, 0)
    await bench.services.routes.refresh_if_changed()
    answers = [(await bench.predict("digits", DIGIT)).json() for _ in range(8)]
    assert {answer["usage"]["deployment"] for answer in answers} == {incumbent.id}
    told = (await bench.request("GET", f"/deployments/{incumbent.id}")).json()
    assert told["traffic"] == 90
    assert [event["message"].partition("Traffic here: ")[2] for event in told["events"][-2:]] == [
        "90 → 0.",
        "0 → 90.",
    ]


async def test_both_calls_may_be_repeated(bench: Bench) -> None:
    """A client that lost the answer sends it again: nothing else changes."""
    incumbent, canary = await pair(bench, old=90, new=10)
    for call, weights in (("promote", (0, 100)), ("rollback", (90, 0))):
        for _ in range(2):
            assert (await bench.request("POST", f"/deployments/{canary.id}/{call}")).status_code == 200
            found = [await bench.services.deployments.get(DEMO_ORG, each.id) for each in (incumbent, canary)]
            assert tuple(each.traffic for each in found if each) == weights


async def test_one_that_is_not_ready_is_not_promoted(bench: Bench) -> None:
    """And the other keeps its traffic."""
    incumbent, coming = await pair(bench, status=DeploymentStatus.PROVISIONING)
    refused = await bench.request("POST", f"/deployments/{coming.id}/promote")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "deployment_not_changeable")
    found = await bench.services.deployments.get(DEMO_ORG, incumbent.id)
    assert found is not None
    assert found.traffic == 60


async def test_the_last_one_cannot_be_rolled_back(bench: Bench) -> None:
    """Nothing would answer."""
    only = await bench.deploy("digits", org=DEMO_ORG)
    refused = await bench.request("POST", f"/deployments/{only.id}/rollback")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "deployment_not_changeable")


@pytest.mark.parametrize("call", ["promote", "rollback"])
async def test_a_share_in_the_body_is_not_passed_over(bench: Bench, call: str) -> None:
    """Whoever sends one means something else than all or nothing; an empty object is as good as no body."""
    incumbent, canary = await pair(bench)
    path = f"/deployments/{canary.id}/{call}"
    refused = await bench.request("POST", path, json={"traffic": 20})
    assert (refused.status_code, refused.json()["error"]["details"]["fields"][0]["path"]) == (400, "traffic")
    found = [await bench.services.deployments.get(DEMO_ORG, each.id) for each in (incumbent, canary)]
    assert [each.traffic for each in found if each] == [60, 40]
    for options in ({}, {"json": {}}):
        assert (await bench.request("POST", path, **options)).status_code == 200


@pytest.mark.parametrize("call", ["promote", "rollback"])
async def test_anothers_deployment_is_unknown(bench: Bench, call: str) -> None:
    """Whether it exists is not told."""
    foreign = await bench.deploy("digits", org="org_b")
    refused = await bench.request("POST", f"/deployments/{foreign.id}/{call}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "deployment_not_found")


async def test_a_change_in_between_is_not_overwritten(bench: Bench) -> None:
    """All weights are written, or none: decided anew on what is there by then."""
    incumbent, canary = await pair(bench, old=90, new=10)
    calls = [bench.request("POST", f"/deployments/{canary.id}/promote")]
    calls += [bench.request("PATCH", f"/deployments/{incumbent.id}", json={"replicas": n}) for n in (2, 3)]
    answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    found = [await bench.services.deployments.get(DEMO_ORG, each.id) for each in (incumbent, canary)]
    assert [each.traffic for each in found if each] == [0, 100]


@pytest.mark.parametrize(("call", "before"), [("rollback", (50, 50)), ("promote", (0, 0))])
async def test_of_two_shifts_at_once_one_is_decided_on_the_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, before: tuple[int, int]
) -> None:
    """Each leaves the other's deployment as it is: both done, nobody would answer, or both would have all of it."""
    first, second = await pair(bench, old=before[0], new=before[1])
    store = bench.services.deployments
    look, looks, both = store.of_model, 0, asyncio.Barrier(2)

    async def together(*arguments: Any) -> list[Deployment]:
        nonlocal looks
        looks += 1
        found = await look(*arguments)
        if looks <= 2:
            await both.wait()
        return found

    monkeypatch.setattr(store, "of_model", together)
    calls = (bench.request("POST", f"/deployments/{each.id}/{call}") for each in (first, second))
    assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200, 200]
    found = [await store.get(DEMO_ORG, each.id) for each in (first, second)]
    assert sorted(each.traffic for each in found if each) == [0, 100]


async def test_a_registered_model_answers_as_a_version_of_another(bench: Bench) -> None:
    """Beside the model's own deployments, at the same path. The controller serves its content."""
    await bench.deploy("sentiment-v1", org=DEMO_ORG)
    second = await bench.add_model("sentiment-v2")
    made = await bench.create_deployment(
        model_uri="models://sentiment-v2", model_id="sentiment-v1", traffic=10
    )
    assert made.status_code == 201, made.text
    found = made.json()
    assert (found["model"], found["version"], found["endpoint"]) == (
        "sentiment-v1", "sentiment-v2", "/predict/sentiment-v1",
    )  # fmt: skip
    stored = await bench.services.deployments.get(DEMO_ORG, found["id"])
    assert stored is not None
    settings, models = bench.services.settings, bench.services.models
    prepared = await Preparer(settings, models, bench.services.files).prepare(stored)
    assert (prepared.model, prepared.artifact) == ("sentiment-v1", second.artifact)


async def test_a_version_of_nothing(bench: Bench) -> None:
    """Most likely `model_id` was meant to name it anew, which a registered model cannot be."""
    await bench.add_model("digits")
    refused = await bench.create_deployment(model_uri="models://digits", model_id="other")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (404, "model_not_found")
    assert error["details"]["fields"][0]["path"] == "model_id"


async def test_a_version_that_takes_other_inputs(bench: Bench) -> None:
    """Numbers where texts come."""
    await bench.add_model("digits")
    await bench.deploy("sentiment-v1", org=DEMO_ORG)
    refused = await bench.create_deployment(model_uri="models://digits", model_id="sentiment-v1")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_request")
    assert "digits takes tensor inputs and sentiment-v1 text inputs" in error["message"]


async def test_a_version_of_a_public_model_needs_one_to_stand_beside(bench: Bench) -> None:
    """Public deployments are everybody's: no traffic of theirs can be moved. The organization deploys its own first."""
    await bench.deploy("sentiment-v1")
    await bench.add_model("sentiment-v2")
    body = {"model_uri": "models://sentiment-v2", "model_id": "sentiment-v1", "traffic": 5}
    refused = await bench.create_deployment(**body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    await bench.create_deployment(model_uri="models://sentiment-v1")
    assert (await bench.create_deployment(**body)).status_code == 201


async def test_a_version_that_is_coming_does_not_hide_the_public_model(bench: Bench) -> None:
    """Its content is another than the public one's, as it is meant to be."""
    public = await bench.deploy("digits")
    changes = {"version": "digits-2", "artifact": "f" * 64, "status": DeploymentStatus.PROVISIONING}
    await bench.deploy("digits", org=DEMO_ORG, **changes)
    answer = await bench.predict("digits", DIGIT)
    assert (answer.status_code, answer.json()["usage"]["deployment"]) == (200, public.id)


async def test_what_a_canary_wasted_is_not_the_incumbents_latency(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told the whole time, the metrics that of the deployment that answered."""
    incumbent, canary = await pair(bench, old=51, new=49)
    hanging(monkeypatch, canary)
    in_turn(bench, monkeypatch)
    found = [await bench.predict("digits", DIGIT, options={"timeout_ms": 4000}) for _ in range(2)]
    told = max(each.json()["usage"]["latency_ms"] for each in found)
    await bench.services.recorder.flush()
    metrics = (await bench.request("GET", f"/metrics/{incumbent.id}")).json()["metrics"]
    assert told >= 2000 > metrics["latency"]["total"]["max"]


@pytest.mark.parametrize("on_error", ["fail", "continue"])
async def test_what_is_wrong_with_a_request_is_not_the_canarys(bench: Bench, on_error: str) -> None:
    """The incumbent refuses the same input."""
    _, canary = await pair(bench)
    for _ in range(30):
        await bench.predict("digits", [*DIGIT, ["no number"]], options={"on_error": on_error})
    assert await totals(bench, canary) == (0, 0, {})


async def test_equals_are_no_canaries(bench: Bench) -> None:
    """The same content with the same traffic, in another region for example: each has all of its callers' time."""
    first = await bench.deploy("digits", org=DEMO_ORG)
    second = await bench.deploy("digits", org=DEMO_ORG, region="eu-west-1")
    routes = bench.services.routes.candidates(DEMO_ORG, "digits")
    assert {route.deployment: route.incumbent for route in routes} == {first.id: None, second.id: None}
