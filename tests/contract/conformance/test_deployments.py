"""Deployments: created at once, ready only when they answer, changed in place, deleted without a failed request."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.api_bench import Bench
from tests.support.conformance import REGION, Caller, Organization, error_of, fields_of, without_request_id
from tests.support.onnx_graphs import echo, endless, lookup, unknown_operator
from tests.support.platform import until
from tests.support.sentences import sentence

FIELDS = {
    "id", "object", "status", "stage", "model", "version", "model_uri", "region", "replicas", "traffic", "autoscaling",
    "batching", "application", "num_gpus", "accelerator_type", "max_wait_s", "events", "created", "updated",
    "endpoint", "error",
}  # fmt: skip
REGIONS = ["ap-southeast-1", "eu-west-1", "us-east-1", "us-west-2"]
NOWHERE = {"model_uri": "file:///not-here/a.onnx", "region": REGION}
STAGES = ["fetching", "inspecting", "starting", "warming", "ready"]
DAY_S = 86_400


@pytest.fixture(scope="module")
def changing(org: Organization) -> Iterator[dict[str, Any]]:
    """A ready deployment of `org` that tests may change, its model `changing`."""
    uri = org.caller.upload(lookup(), "changing.onnx")
    made = org.caller.settled_deployment(model_uri=uri)
    assert made["status"] == "ready", made
    yield made
    org.caller.delete(f"/deployments/{made['id']}")


@pytest.fixture(scope="module")
def failed(org: Organization) -> dict[str, Any]:
    """A failed deployment of `org`."""
    return org.caller.settled_deployment(**NOWHERE)


@sentence("deploy-13", "deploy-15", "deploy-29")
def test_waiting_for_capacity_ends_when_the_caller_said(caller: Caller) -> None:
    """More GPUs than any test machine has: no CPU in their place."""
    uri = caller.upload(lookup(), "roomy.onnx")
    waited = caller.settled_deployment(model_uri=uri, num_gpus=64, max_wait_s=1)
    assert (waited["status"], waited["error"]["code"], waited["max_wait_s"]) == ("failed", "no_capacity", 1)
    found = waited["error"]["details"]
    assert found["asked"]["GPU"] == 64
    assert found["free"]["GPU"] < 64


@sentence("deploy-1", "deploy-2", "deploy-3")
def test_the_answer_to_a_creation(caller: Caller) -> None:
    """At once, with every field, before anything was fetched."""
    answer = caller.post("/deployments", {**NOWHERE, "model_id": "nothing", "replicas": 2, "traffic": 50})
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == FIELDS
    assert (made["object"], made["status"], made["stage"]) == ("deployment", "provisioning", "fetching")
    assert (made["model"], made["model_uri"], made["region"]) == ("nothing", NOWHERE["model_uri"], REGION)
    assert (made["replicas"], made["traffic"]) == ({"desired": 2, "ready": 0}, 50)
    assert (made["autoscaling"], made["error"], made["endpoint"]) == (None, None, "/predict/nothing")
    assert made["updated"] >= made["created"]


@sentence("deploy-1")
def test_one_replica_by_default(failed: dict[str, Any]) -> None:
    """And all of the model's traffic."""
    assert (failed["replicas"]["desired"], failed["traffic"], failed["num_gpus"]) == (1, 100, 0)
    assert failed["accelerator_type"] is None


@sentence("deploy-1", "deploy-27", "deploy-28", "deploy-32")
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"replicas": 0}, "replicas"),
        ({"traffic": 101}, "traffic"),
        ({"traffic": -1}, "traffic"),
        ({"num_gpus": -1}, "num_gpus"),
        ({"accelerator_type": "A100"}, "accelerator_type"),
        ({"max_wait_s": 0}, "max_wait_s"),
        ({"max_wait_s": 3601}, "max_wait_s"),
        ({"autoscaling": {"min_replicas": 1}}, "autoscaling.max_replicas"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "autoscaling"),
        ({"autoscaling": {"min_replicas": -1, "max_replicas": 2}}, "autoscaling.min_replicas"),
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 0}}, "autoscaling.max_replicas"),
        ({"replicas": 1, "autoscaling": {"min_replicas": 2, "max_replicas": 3}}, "replicas"),
        ({"model_id": "Not A Slug"}, "model_id"),
    ],
)
def test_fields_out_of_range(caller: Caller, fields: dict[str, Any], path: str) -> None:
    """400 that names the field."""
    assert fields_of(caller.post("/deployments", {**NOWHERE, **fields})) == [path]


@sentence("deploy-32")
def test_autoscaling_starts_at_replicas(caller: Caller, changing: dict[str, Any]) -> None:
    """At a creation and at a change; no number outside the bounds is taken."""
    bounds = {"min_replicas": 1, "max_replicas": 3}
    fields = {"replicas": 2, "autoscaling": bounds}
    made = caller.made("/deployments", {**NOWHERE, **fields, "model_id": "scaling"})
    assert (made["replicas"]["desired"], made["autoscaling"]) == (2, bounds)
    path = f"/deployments/{changing['id']}"
    assert caller.patch(path, fields).json()["replicas"]["desired"] == 2
    assert fields_of(caller.patch(path, {**fields, "replicas": 4})) == ["replicas"]
    assert caller.patch(path, {"autoscaling": None, "replicas": 1}).status_code == 200


@sentence("deploy-34")
def test_no_replica_may_be_the_fewest(caller: Caller) -> None:
    """And the first one starts all the same."""
    bounds = {"min_replicas": 0, "max_replicas": 3}
    made = caller.made("/deployments", {**NOWHERE, "autoscaling": bounds, "model_id": "sleepy"})
    assert (made["replicas"]["desired"], made["autoscaling"]) == (1, bounds)


@sentence("deploy-28")
def test_max_wait_s_is_accepted(caller: Caller) -> None:
    """Both ends, and null."""
    for seconds in (1, 3600, None):
        assert caller.post("/deployments", {**NOWHERE, "max_wait_s": seconds}).status_code == 201


@sentence("deploy-4", "deploy-5", "deploy-2")
def test_stages_in_order(caller: Caller, deployment: dict[str, Any]) -> None:
    """Every stage was gone through, and the endpoint answers."""
    events = deployment["events"]
    assert all(event.keys() == {"at", "stage", "message"} for event in events)
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    stages = [event["stage"] for event in events]
    positions = [stages.index(stage) for stage in STAGES if stage in stages]
    assert positions == sorted(positions)
    assert {"starting", "warming", "ready"} <= set(stages)
    assert (deployment["status"], deployment["stage"]) == ("ready", "ready")
    assert deployment["replicas"] == {"desired": 1, "ready": 1}
    assert deployment["batching"].keys() == {"max_batch_size", "reason", "rows_per_s", "max_difference"}
    assert deployment["batching"]["max_batch_size"] >= 1
    assert float(deployment["batching"]["rows_per_s"]["1"]) > 0
    answer = caller.post(deployment["endpoint"], {"inputs": [3]})
    assert answer.json()["results"] == [{"value": 30.0}]
    assert answer.json()["usage"]["deployment"] == deployment["id"]


@sentence("deploy-6")
@pytest.mark.parametrize("scheme", ["models://", "fyre://models/"])
def test_a_registered_model(fresh: Organization, scheme: str) -> None:
    """By either name; deployed beside the public one, for this organization alone."""
    made = fresh.caller.made("/deployments", {"model_uri": f"{scheme}digits", "region": REGION})
    assert (made["model"], made["status"]) == ("digits", "provisioning")
    fresh.caller.delete(f"/deployments/{made['id']}")


@sentence("deploy-7")
@pytest.mark.parametrize(
    "uri",
    ["ftp://a.example/a.onnx", "https://127.0.0.1.nip.example:22/a.onnx", "file:///etc/../proc/self/mem", "nonsense",
     "http://169.254.169.254/a.onnx", "https://10.0.0.1/a.onnx"],
)  # fmt: skip
def test_an_address_that_is_not_allowed(caller: Caller, uri: str) -> None:
    """422 at once, naming the field."""
    body = {"model_uri": uri, "region": REGION, "model_id": "x"}
    error = error_of(caller.post("/deployments", body), 422, "url_not_allowed")
    assert [field["path"] for field in error["details"]["fields"]] == ["model_uri"]


@sentence("deploy-7")
def test_https_and_file_are_accepted(caller: Caller) -> None:
    """What they lead to shows later."""
    for uri in ("https://models.invalid/a.onnx", "file:///not-here/a.onnx"):
        made = caller.made("/deployments", {"model_uri": uri, "region": REGION, "model_id": f"x-{uri[:4]}"})
        assert made["model_uri"] == uri
        caller.delete(f"/deployments/{made['id']}")


@sentence("deploy-9")
def test_the_model_is_named(org: Organization, changing: dict[str, Any], deployment: dict[str, Any]) -> None:
    """By the file, or by model_id; it is registered."""
    assert (changing["model"], deployment["model"]) == ("changing", "table")
    for name in ("changing", "table"):
        assert org.caller.read(f"/models/{name}")["status"] == "ready"


@sentence("deploy-9")
def test_the_manifest_names_the_model(fresh: Organization) -> None:
    """Before the file's name does."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model.yaml", "id: from-the-manifest\ndescription: named within\n")
        archive.writestr("model.onnx", echo("float32", ["N", 3]))
    uri = fresh.caller.upload(content.getvalue(), "from-the-file.zip")
    made = fresh.caller.settled_deployment(model_uri=uri)
    assert (made["status"], made["model"]) == ("ready", "from-the-manifest"), made
    assert fresh.caller.read("/models/from-the-manifest")["description"] == "named within"
    fresh.caller.delete(f"/deployments/{made['id']}")


@sentence("deploy-10")
def test_an_id_in_use_by_other_content(caller: Caller, deployment: dict[str, Any]) -> None:
    """Of this organization."""
    body = {**NOWHERE, "model_id": deployment["model"]}
    error_of(caller.post("/deployments", body), 409, "model_conflict")


@sentence("deploy-11")
def test_an_unknown_model(caller: Caller) -> None:
    """By either name."""
    for scheme in ("models://", "fyre://models/"):
        body = {"model_uri": f"{scheme}not-here", "region": REGION}
        error_of(caller.post("/deployments", body), 404, "model_not_found")


@sentence("deploy-12", "deploy-14")
def test_failures_say_why(caller: Caller, failed: dict[str, Any], deployment: dict[str, Any]) -> None:
    """Nothing there; not ONNX. What was ready before still answers."""
    assert (failed["status"], failed["error"]["code"]) == ("failed", "artifact_not_found")
    uri = caller.upload(lookup()[:-20], "half.onnx")
    broken = caller.settled_deployment(model_uri=uri)
    assert (broken["status"], broken["error"]["code"]) == ("failed", "invalid_onnx")
    assert all(each["error"]["message"] for each in (failed, broken))
    assert caller.post(deployment["endpoint"], {"inputs": [1]}).status_code == 200


@sentence("deploy-13")
@pytest.mark.parametrize(
    ("content", "fields", "code"),
    [
        (unknown_operator(), {}, "unsupported_operator"),
        (endless(), {}, "load_timeout"),
        (lookup(), {"sha256": "0" * 64}, "checksum_mismatch"),
    ],
)
def test_each_failure_has_its_code(caller: Caller, content: bytes, fields: dict[str, str], code: str) -> None:
    """What is unknown to the runtime, what never ends, what is not what the caller meant."""
    made = caller.settled_deployment(
        model_uri=caller.upload(content, "broken.onnx"), model_id="broken", **fields
    )
    assert (made["status"], made["error"]["code"]) == ("failed", code), made["error"]
    caller.delete(f"/deployments/{made['id']}")


@sentence("deploy-16")
def test_the_list(fresh: Organization) -> None:
    """The active ones; a deleted one is gone from it at once."""
    names = [fresh.caller.made("/deployments", {**NOWHERE, "model_id": f"m{n}"})["id"] for n in range(2)]
    assert [each["id"] for each in fresh.caller.read("/deployments")["data"]] == names[::-1]
    fresh.caller.delete(f"/deployments/{names[0]}")
    assert [each["id"] for each in fresh.caller.read("/deployments")["data"]] == names[1:]


@sentence("deploy-17", "deploy-30")
def test_a_public_deployment(fresh: Organization) -> None:
    """Read by everyone, deleted by nobody."""
    (name,) = fresh.caller.read("/models/digits")["deployments"]
    found = fresh.caller.read(f"/deployments/{name}")
    assert (found["id"], found["model"], found["status"]) == (name, "digits", "ready")
    refused = fresh.caller.delete(f"/deployments/{name}")
    assert "public" in error_of(refused, 404, "deployment_not_found")["message"]
    assert fresh.caller.post("/predict/digits", {"inputs": [[0] * 64]}).status_code == 200


@sentence("deploy-18", "deploy-31")
def test_replicas_are_changed_in_place(caller: Caller, changing: dict[str, Any]) -> None:
    """Two run, then one; it answers meanwhile."""
    path = f"/deployments/{changing['id']}"
    for count in (2, 1):
        answer = caller.patch(path, {"replicas": count})
        assert (answer.status_code, answer.json()["replicas"]["desired"]) == (200, count)

        def runs(wanted: int = count) -> bool:
            assert caller.post("/predict/changing", {"inputs": [1]}).status_code == 200
            return bool(caller.read(path)["replicas"] == {"desired": wanted, "ready": wanted})

        until(runs, timeout_s=240, what=f"{count} replicas")


@sentence("deploy-18", "deploy-19")
def test_autoscaling_is_switched_on_and_off(caller: Caller, changing: dict[str, Any]) -> None:
    """Bounds, then none."""
    path = f"/deployments/{changing['id']}"
    bounds = {"min_replicas": 1, "max_replicas": 2}
    on = caller.patch(path, {"autoscaling": bounds})
    assert (on.status_code, on.json()["autoscaling"]) == (200, bounds)
    off = caller.patch(path, {"autoscaling": None})
    assert (off.status_code, off.json()["autoscaling"]) == (200, None)
    assert caller.read(path)["autoscaling"] is None


@sentence("deploy-18")
@pytest.mark.parametrize("body", [{}, {"region": "us-east-1"}, {"replicas": 0}, {"traffic": 101}])
def test_a_change_of_nothing_or_of_something_else(
    caller: Caller, changing: dict[str, Any], body: dict[str, Any]
) -> None:
    """400; the deployment is as it was."""
    error_of(caller.patch(f"/deployments/{changing['id']}", body), 400, "invalid_request")


@sentence("deploy-18", "deploy-27")
def test_no_traffic(caller: Caller, changing: dict[str, Any]) -> None:
    """At 0 it takes none, and the model has no other; at 100 it answers again."""
    path = f"/deployments/{changing['id']}"

    def status() -> int:
        return caller.post("/predict/changing", {"inputs": [1]}).status_code

    for traffic, expected in ((0, 409), (100, 200)):
        answer = caller.patch(path, {"traffic": traffic})
        assert (answer.status_code, answer.json()["traffic"]) == (200, traffic)
        until(lambda wanted=expected: status() == wanted, timeout_s=60, what=f"{expected}")  # type: ignore[misc]


@sentence("deploy-20")
def test_what_cannot_be_changed(caller: Caller, failed: dict[str, Any]) -> None:
    """A failed one, one that is being deleted."""
    refused = caller.patch(f"/deployments/{failed['id']}", {"replicas": 2})
    error_of(refused, 409, "deployment_not_changeable")
    made = caller.made("/deployments", {**NOWHERE, "model_id": "going"})
    caller.delete(f"/deployments/{made['id']}")
    gone = caller.patch(f"/deployments/{made['id']}", {"replicas": 2})
    error_of(gone, 404, "deployment_not_found")


@sentence("deploy-16", "deploy-17", "deploy-20")
@pytest.mark.anyio
async def test_one_that_drains(bench: Bench) -> None:
    """Shown until it is gone, and neither listed nor changed any more."""
    made = await bench.deploy("digits", org=DEMO_ORG, status=DeploymentStatus.DRAINING)
    path = f"/deployments/{made.id}"
    shown = await bench.request("GET", path)
    assert (shown.status_code, shown.json()["status"]) == (200, "draining")
    error_of(await bench.request("PATCH", path, json={"traffic": 1}), 404, "deployment_not_found")
    assert (await bench.request("GET", "/deployments")).json()["data"] == []


@sentence("deploy-21", "deploy-22", "deploy-23", "deploy-24")
def test_deletion(fresh: Organization) -> None:
    """While eight clients predict: each is answered, or told that the model has no deployment; nothing else."""
    caller = fresh.caller
    made = caller.settled_deployment(model_uri=caller.upload(lookup(), "going.onnx"))
    assert made["status"] == "ready", made
    path = f"/deployments/{made['id']}"
    gone = Event()

    def predict(_: int) -> set[int]:
        seen = set()
        while not gone.is_set():
            seen.add(caller.post("/predict/going", {"inputs": [1]}).status_code)
        return seen

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(predict, number) for number in range(8)]
        first = caller.delete(path)

        def refused() -> bool:
            return caller.post("/predict/going", {"inputs": [1]}).status_code == 409

        try:
            until(refused, timeout_s=60, what="the endpoint closed")
        finally:
            gone.set()
        assert set().union(*(client.result() for client in clients)) <= {200, 409}
    assert first.status_code == 200
    assert first.json() == {"id": made["id"], "object": "deployment", "deleted": True}
    until(lambda: caller.get(path).status_code == 404, timeout_s=240, what="the deployment freed")
    assert caller.delete(path).json() == first.json()
    assert caller.read("/models/going")["status"] == "ready"


@sentence("deploy-23")
@pytest.mark.anyio
async def test_the_record_of_a_deleted_deployment_expires(bench: Bench) -> None:
    """After 24 h the repetition is a 404."""
    made = await bench.deploy("digits", org=DEMO_ORG, status=DeploymentStatus.DRAINING)
    await bench.services.deployments.transition(made, DeploymentStatus.DELETED, message="Freed.")
    assert (await bench.request("DELETE", f"/deployments/{made.id}")).status_code == 200
    redis = bench.services.store.redis
    (name,) = [key async for key in redis.scan_iter(f"*deployment:{made.id}")]
    assert DAY_S - 60 <= await redis.ttl(name) <= DAY_S
    await redis.delete(name)
    error_of(await bench.request("DELETE", f"/deployments/{made.id}"), 404, "deployment_not_found")


@sentence("deploy-25", "deploy-26")
def test_an_unknown_region(caller: Caller) -> None:
    """The known ones are listed."""
    refused = caller.post("/deployments", {**NOWHERE, "region": "mars"})
    error = error_of(refused, 422, "invalid_region")
    assert error["details"]["regions"] == REGIONS
    assert all(region in error["message"] for region in REGIONS)


@sentence("deploy-30")
def test_an_unknown_deployment(other: Organization, deployment: dict[str, Any]) -> None:
    """Or a foreign one, or nothing like an id."""
    names = ("dep_01ARZ3NDEKTSV4RRFFQ69G5FAV", deployment["id"], "nonsense")
    answers = [other.caller.get(f"/deployments/{name}") for name in names]
    for answer in answers:
        error_of(answer, 404, "deployment_not_found")
    assert len({without_request_id(answer) for answer in answers}) == 1
