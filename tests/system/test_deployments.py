"""From a file to an endpoint and away again, on the running platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gpus import placements
from tests.support.onnx_graphs import echo, half_scores, lookup
from tests.support.platform import RunningPlatform, deployed, until

pytestmark = pytest.mark.system


def still_answers(client: httpx.Client) -> bool:
    """Whether the demo model does."""
    answer = client.post("/predict/sentiment-v1", json={"inputs": ["a fine film"]})
    return answer.status_code == 200


def test_deploy_predict_delete(client: httpx.Client, platform: RunningPlatform, tmp_path: Path) -> None:
    """A bare .onnx: ready only after a real inference; deleted: the endpoint is gone, the model stays."""
    path = tmp_path / "Lookup Table.onnx"
    path.write_bytes(lookup())
    ready = deployed(client, {"model_uri": path.as_uri(), "region": "eu-west-1"})
    assert ready["status"] == "ready", ready["error"]
    assert ready["model"] == "lookup-table"
    assert [event["stage"] for event in ready["events"]][-2:] == ["warming", "ready"]
    answer = client.post("/predict/lookup-table", json={"inputs": [3, 1]})
    assert answer.json()["results"] == [{"value": 30.0}, {"value": 10.0}]
    assert answer.json()["usage"]["region"] == "eu-west-1"
    gone = client.delete(f"/deployments/{ready['id']}")
    assert gone.json() == {"id": ready["id"], "object": "deployment", "deleted": True}
    until(
        lambda: client.post("/predict/lookup-table", json={"inputs": [1]}).status_code == 409,
        timeout_s=60,
        what="the deleted deployment's endpoint closed",
    )
    until(
        lambda: client.get(f"/deployments/{ready['id']}").status_code == 404,
        timeout_s=120,
        what="the deployment deleted, its replica gone",
    )
    assert not platform.titled(ready["application"])
    assert client.get("/models/lookup-table").json()["status"] == "ready"
    assert ready["id"] not in [each["id"] for each in client.get("/deployments").json()["data"]]


def test_a_row_that_fails_harms_no_neighbour(client: httpx.Client, tmp_path: Path) -> None:
    """The model itself fails on one row of three: that row has the error, the others their results."""
    path = tmp_path / "isolated.onnx"
    path.write_bytes(lookup())
    assert deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})["status"] == "ready"
    body = {"inputs": [1, 99, 2], "options": {"on_error": "continue"}}
    first, bad, last = client.post("/predict/isolated", json=body).json()["results"]
    assert (first, last) == ({"value": 10.0}, {"value": 20.0})
    assert bad["error"]["code"] == "row_failed"


def test_a_corrupt_artifact_fails_alone(client: httpx.Client, tmp_path: Path) -> None:
    """Half a file: failed with invalid_onnx, and the demo model keeps answering."""
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(echo("float32", ["N", 3])[:-20])
    failed = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})
    assert (failed["status"], failed["error"]["code"]) == ("failed", "invalid_onnx")
    assert still_answers(client)


def test_a_missing_artifact_fails_with_its_code(client: httpx.Client, tmp_path: Path) -> None:
    """Nothing at the URI."""
    failed = deployed(client, {"model_uri": (tmp_path / "no.onnx").as_uri(), "region": "us-east-1"})
    assert (failed["status"], failed["error"]["code"]) == ("failed", "artifact_not_found")


def replica_pids(platform: RunningPlatform, application: str) -> set[int]:
    """The processes of a deployment's replicas; the application is its own, or one that stood by for it."""
    return {each.pid for each in platform.titled(application)}


def test_replicas_come_and_go_without_a_restart(
    client: httpx.Client, platform: RunningPlatform, tmp_path: Path
) -> None:
    """1 → 2 → by load → 1: who stays keeps its process, no prediction fails, and it is ready throughout."""
    path = tmp_path / "scaled.onnx"
    path.write_bytes(lookup())
    made = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1"})
    name, application = made["id"], made["application"]
    (first,) = replica_pids(platform, application)

    def changed(body: dict[str, Any], ready: int) -> set[int]:
        desired = client.patch(f"/deployments/{name}", json=body).json()["replicas"]["desired"]
        assert desired == ready

        def is_there() -> bool:
            answer = client.post("/predict/scaled", json={"inputs": [3]})
            assert (answer.status_code, answer.json().get("results")) == (200, [{"value": 30.0}])
            shown: dict[str, Any] = client.get(f"/deployments/{name}").json()
            assert shown["status"] == "ready"
            return shown["replicas"]["ready"] == ready and len(replica_pids(platform, application)) == ready

        until(is_there, timeout_s=240, what=f"{ready} replicas after {body}")
        return replica_pids(platform, application)

    two = changed({"replicas": 2}, 2)
    assert first in two
    assert changed({"autoscaling": {"min_replicas": 2, "max_replicas": 3}}, 2) == two
    assert changed({"autoscaling": None, "replicas": 1}, 1) < two
    stages = [event["stage"] for event in client.get(f"/deployments/{name}").json()["events"]]
    assert stages[-4:] == ["ready", "changed", "changed", "changed"]
    client.delete(f"/deployments/{name}")


def test_what_finds_no_room_fails_when_its_wait_is_over(client: httpx.Client, tmp_path: Path) -> None:
    """More GPUs than any test machine has: failed for want of capacity, in its caller's time."""
    path = tmp_path / "roomy.onnx"
    path.write_bytes(lookup())
    body = {"model_uri": path.as_uri(), "region": "us-east-1", "num_gpus": 64, "max_wait_s": 1}
    failed = deployed(client, body)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "no_capacity")
    assert "within 1 s" in failed["error"]["message"]
    assert still_answers(client)


def test_a_gpu_without_cuda_is_a_failure_never_a_cpu(
    client: httpx.Client, platform: RunningPlatform, tmp_path: Path
) -> None:
    """ONNX Runtime would take the CPU without a word."""
    path = tmp_path / "half.onnx"
    path.write_bytes(half_scores())
    made = deployed(client, {"model_uri": path.as_uri(), "region": "us-east-1", "num_gpus": 0.5})
    assert (made["status"], made["error"]["code"]) == ("failed", "gpu_unavailable")
    assert placements(platform, made["id"]) == []
    assert made["replicas"]["ready"] == 0
