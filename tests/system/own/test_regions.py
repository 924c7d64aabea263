"""Regions on three nodes: replicas on the nodes of their region, predictions from the region that was wished for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.nodes import BOOTSTRAP, Node, alive_nodes, joined, nodes_of_replicas
from tests.support.onnx_graphs import half_scores
from tests.support.platform import RunningPlatform, deployed, until

pytestmark = pytest.mark.system

US, EU, UNSERVED = "us-east-1", "eu-west-1", "ap-southeast-1"
REGIONS = {name: {"region": name} for name in (US, EU, UNSERVED)}
NOBODY_STANDS_BY = {"size": 0}


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform whose head is in one of its regions."""
    copy = RunningPlatform.in_folder(
        tmp_path_factory.mktemp("regions"), {"regions": REGIONS, "standby": NOBODY_STANDS_BY}
    )
    copy.environ.update({**BOOTSTRAP, "FYRE_NODE_LABELS": f"region={US},zone=a"})
    try:
        shown = copy.up("--no-demo")
        assert f"regions    {US}, us-west-2: on this machine" in shown
        assert f"{EU}: needs a node with region={EU}" in shown
        yield copy
    finally:
        copy.down()
    assert copy.processes() == []


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a model lies."""
    path = tmp_path_factory.mktemp("model") / "half.onnx"
    path.write_bytes(half_scores())
    return path.as_uri()


def ready(client: httpx.Client, uri: str, region: str, **fields: Any) -> str:
    """The id of a deployment there, once it takes traffic."""
    made = deployed(client, {"model_uri": uri, "region": region, **fields})
    assert made["status"] == "ready", made
    return str(made["id"])


def serving_region(client: httpx.Client, wished: str | None = None) -> str:
    """The region that answered a prediction, which is right wherever it came from."""
    options = {} if wished is None else {"options": {"region": wished}}
    answer = client.post("/predict/half", json={"inputs": [[1.5, 0.25]], **options})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == [{"y": [3.0, 1.75]}]
    return str(answer.json()["usage"]["region"])


def await_regions(client: httpx.Client, regions: set[str], wished: str) -> None:
    """Until these answer, all the while rightly: where predictions go to is known a moment later than what is ready."""
    until(
        lambda: {serving_region(client, wished) for _ in range(20)} == regions,
        timeout_s=60,
        what=f"answers of {regions} to who wishes for {wished}",
    )


def test_replicas_run_in_their_region_and_others_stand_in(regions: RunningPlatform, half: str) -> None:
    """Three nodes, two regions. Then one region's only node is lost, and nothing new fits there."""
    with (
        joined(regions, f"region={US},zone=b") as us,
        joined(regions, f"region={EU}") as eu,
        regions.client() as client,
    ):
        labels = alive_nodes(regions)
        assert len(labels) == 3
        in_us = {name for name, found in labels.items() if found["region"] == US}
        assert us.id in in_us
        american = ready(client, half, US, replicas=2)
        european = ready(client, half, EU)
        until(
            lambda: client.get(f"/deployments/{american}").json()["replicas"]["ready"] == 2,
            timeout_s=240,
            what="both replicas",
        )
        assert set(nodes_of_replicas(regions, american)) <= in_us
        assert nodes_of_replicas(regions, european) == [eu.id]
        for wished in (US, EU):
            await_regions(client, {wished}, wished)
            assert {serving_region(client, wished) for _ in range(20)} == {wished}
        assert {serving_region(client) for _ in range(60)} == {US, EU}
        assert {serving_region(client, UNSERVED) for _ in range(60)} == {US, EU}

        _lose(eu, client, european)
        until(lambda: eu.id not in alive_nodes(regions), timeout_s=240, what="a node that Ray misses")
        await_regions(client, {US}, EU)
        assert {serving_region(client, EU) for _ in range(20)} == {US}
        refused = deployed(client, {"model_uri": half, "region": EU, "max_wait_s": 1})
        assert (refused["status"], refused["error"]["code"]) == ("failed", "no_capacity")
        assert f"region={EU}" in refused["error"]["message"]
        assert "There is no such node." in refused["error"]["message"]

        with joined(regions, f"region={EU}") as back:
            until(
                lambda: client.get(f"/deployments/{european}").json()["status"] == "ready",
                timeout_s=240,
                what="the region's own replica on its new node",
            )
            assert nodes_of_replicas(regions, european) == [back.id]
            await_regions(client, {EU}, EU)


def _lose(node: Node, client: httpx.Client, deployment: str) -> None:
    """Take the node away. Until that is noticed a prediction may end at its deadline: its caller asks again.

    Then the deployment says so, and nobody waits for it any more.
    """
    node.kill()
    body = {"inputs": [[1.5, 0.25]], "options": {"region": EU, "timeout_ms": 1000}}

    def answers_elsewhere() -> bool:
        answer = client.post("/predict/half", json=body)
        assert answer.status_code in (200, 503, 504), answer.text
        return bool(answer.status_code == 200 and answer.json()["usage"]["region"] == US)

    until(answers_elsewhere, timeout_s=240, what="another region's answer")
    until(
        lambda: client.get(f"/deployments/{deployment}").json()["status"] == "degraded",
        timeout_s=240,
        what="a deployment without its node",
    )
