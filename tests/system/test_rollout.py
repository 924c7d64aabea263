"""A new deployment of a model takes over from the one before it while predictions go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from scripts.benchmarks.behaviour.stage import target_of, warm
from scripts.benchmarks.comparison.workloads import WORKLOADS, Workload
from scripts.trials.faults.steady import Call, steady_load
from tests.support.model_packages import write_package
from tests.support.onnx_graphs import classified
from tests.support.platform import RunningPlatform, deployed, until

pytestmark = pytest.mark.system

RATE_PER_S = 50.0
SAMPLE = 200
"""Of answers: at 10 of 110 parts of the traffic, none of them from the new one would be a wonder (5e-9)."""


def sampled(calls: Sequence[Call]) -> Counter[str]:
    """Who answered the next calls, of those that were due from now on: one from before may be answered late."""
    since = time.monotonic()

    def found() -> list[str] | None:
        deployments = [call.deployment for call in calls if call.due_at >= since]
        return deployments if len(deployments) >= SAMPLE else None

    return Counter(until(found, timeout_s=240, what=f"{SAMPLE} more answers"))


def latest(calls: Sequence[Call], count: int = 20) -> set[str]:
    """Who answered the last ones."""
    return {call.deployment for call in calls[-count:]}


def test_a_new_deployment_takes_over_without_a_failed_prediction(
    client: httpx.Client, platform: RunningPlatform
) -> None:
    """The second at 10 beside the first, then promoted, then the first deleted: all are answered.

    At the first try, rightly, and by those deployments that have traffic.
    """
    workload = WORKLOADS["digits"](Path())
    model_id = "rollout"
    first_body = {"model_uri": workload.package.as_uri(), "model_id": model_id, "region": "us-east-1"}
    first = deployed(client, first_body)["id"]
    target = target_of(platform, model_id, workload.bodies)
    warm(target)
    with steady_load(target, workload, RATE_PER_S) as calls:
        assert set(sampled(calls)) == {first}
        second_body = {"model_uri": f"models://{model_id}", "region": "us-east-1", "traffic": 10}
        second = deployed(client, second_body)["id"]
        until(lambda: second in latest(calls), timeout_s=60, what="an answer of the second")
        shared = sampled(calls)
        assert set(shared) == {first, second}
        assert shared[first] > shared[second]
        promoted = client.post(f"/deployments/{second}/promote")
        assert (promoted.status_code, promoted.json()["traffic"]) == (200, 100)
        until(
            lambda: latest(calls) == {second},
            timeout_s=60,
            what="all traffic at the second",
        )
        assert set(sampled(calls)) == {second}
        assert client.delete(f"/deployments/{first}").status_code == 200
        until(
            lambda: client.get(f"/deployments/{first}").status_code == 404,
            timeout_s=240,
            what="the first deployment's end",
        )
        assert set(sampled(calls)) == {second}
    assert [call for call in calls if call.failures or call.wrong] == []
    client.delete(f"/deployments/{second}").raise_for_status()


def test_a_new_version_that_fails_is_rolled_back_and_nobody_noticed(
    client: httpx.Client, platform: RunningPlatform, tmp_path: Path
) -> None:
    """It fails at one prediction in five; each is answered by the old one all the same, at the first try.

    The metrics say whose failures they were. One call ends it.
    """
    write_package(tmp_path / "old", classified(5))
    write_package(tmp_path / "new", classified(4))
    workload = Workload("table", tmp_path / "old", "int64", [[index] for index in range(5)])
    old_body = {"model_uri": workload.package.as_uri(), "model_id": "table", "region": "us-east-1"}
    old = deployed(client, old_body)["id"]
    new_model = {"id": "table-2", "model_uri": (tmp_path / "new").as_uri()}
    assert client.post("/models", json=new_model).status_code == 201
    until(
        lambda: client.get("/models/table-2").json()["status"] == "ready",
        timeout_s=240,
        what="the new version",
    )
    target = target_of(platform, "table", workload.bodies)
    warm(target)
    with steady_load(target, workload, RATE_PER_S) as calls:
        new_body = {
            "model_uri": "models://table-2",
            "model_id": "table",
            "region": "us-east-1",
            "traffic": 25,
        }
        new = deployed(client, new_body)["id"]

        def failed(name: str) -> int:
            """Predictions that its metrics count as failed."""
            found = client.get(f"/metrics/{name}", params={"period": "5m"}).json()["metrics"]
            assert set(found["errors"]["by_code"]) <= {"row_failed"}
            return int(found["requests"]["failed"])

        until(lambda: failed(new) >= 10, timeout_s=240, what="ten failures of the new version")
        assert failed(old) == 0
        assert client.post(f"/deployments/{new}/rollback").json()["traffic"] == 0
        until(
            lambda: latest(calls, SAMPLE // 2) == {old},  # of which a quarter would be the new one's
            timeout_s=60,
            what="all traffic at the old one",
        )
        assert set(sampled(calls)) == {old}
        client.delete(f"/deployments/{new}").raise_for_status()
    assert [call for call in calls if call.failures or call.wrong] == []
    client.delete(f"/deployments/{old}").raise_for_status()
