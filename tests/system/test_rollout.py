"""A new deployment of a model takes over from the one before it while predictions go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from scripts.benchmarks.behaviour.stage import target_of, warm
from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.trials.faults.steady import Call, steady_load
from tests.support.platform import RunningPlatform, deployed, until

pytestmark = pytest.mark.system

RATE_PER_S = 50.0
SAMPLE = 200
"""Of answers: at 10 of 110 parts of the traffic, none of them from the new one would be a wonder (5e-9)."""


def answered(calls: Sequence[Call], start: int) -> Counter[str]:
    """By which deployments, from the call `start` on."""
    return Counter(call.deployment for call in calls[start:])


def test_a_new_deployment_takes_over_without_a_failed_prediction(
    client: httpx.Client, platform: RunningPlatform
) -> None:
    """The second at 10 beside the first, then at 100 with the first at 0, then the first deleted: all are answered.

    At the first try, rightly, and by those deployments that have traffic.
    """
    workload = WORKLOADS["digits"](Path())
    model_id = "rollout"
    first_body = {"model_uri": workload.package.as_uri(), "model_id": model_id, "region": "us-east-1"}
    first = deployed(client, first_body)["id"]
    target = target_of(platform, model_id, workload.bodies)
    warm(target)
    with steady_load(target, workload, RATE_PER_S) as calls:

        def sampled() -> Counter[str]:
            """Who answered the next calls."""
            start = len(calls)
            until(lambda: len(calls) >= start + SAMPLE, timeout_s=60, what=f"{SAMPLE} more answers")
            return answered(calls, start)

        assert set(sampled()) == {first}
        second_body = {"model_uri": f"models://{model_id}", "region": "us-east-1", "traffic": 10}
        second = deployed(client, second_body)["id"]
        shared = sampled()
        assert set(shared) == {first, second}
        assert shared[first] > shared[second]
        for name, traffic in ((second, 100), (first, 0)):
            changed = client.patch(f"/deployments/{name}", json={"traffic": traffic})
            assert (changed.status_code, changed.json()["traffic"]) == (200, traffic)
        until(
            lambda: set(answered(calls, len(calls) - 20)) == {second},
            timeout_s=30,
            what="all traffic at the second",
        )
        assert set(sampled()) == {second}
        assert client.delete(f"/deployments/{first}").status_code == 200
        until(
            lambda: client.get(f"/deployments/{first}").status_code == 404,
            timeout_s=60,
            what="the first deployment's end",
        )
        assert set(sampled()) == {second}
    assert [call for call in calls if call.failures or call.wrong] == []
    client.delete(f"/deployments/{second}").raise_for_status()
