"""Nodes: on the running platform, and in states that it is not in."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fyretoolkit.core.nodes import Occupant
from fyretoolkit.core.organizations import DEMO_ORG, PUBLIC_ORG, Scope
from tests.support.api_bench import Bench
from tests.support.cluster import a_node
from tests.support.conformance import REGION, Organization, error_of
from tests.support.platform import until
from tests.support.sentences import sentence

FIELDS = {
    "id", "object", "alive", "head", "regions", "labels", "cpus", "gpus", "memory_bytes", "deployments", "observed_at",
}  # fmt: skip
FRESH_S = 10


@sentence("nodes-1", "nodes-2", "nodes-3", "nodes-4", "nodes-6")
def test_the_nodes_of_the_platform(org: Organization) -> None:
    """One of them is the head and serves every region; what is free of it is part of what it has."""
    asked = time.time()
    found = org.caller.read("/nodes")["data"]
    (head,) = [node for node in found if node["head"]]
    assert head.keys() == FIELDS
    assert (head["object"], head["alive"], len(head["id"])) == ("node", True, 56)
    assert {REGION, "us-west-2"} <= set(head["regions"])
    for name in ("cpus", "gpus", "memory_bytes"):
        assert head[name].keys() == {"total", "free"}
        assert 0 <= head[name]["free"] <= head[name]["total"]
    assert head["cpus"]["total"] >= 1
    assert head["memory_bytes"]["total"] > 2**28
    assert asked - FRESH_S <= head["observed_at"] <= time.time()


@sentence("nodes-5", "nodes-6")
def test_a_deployment_shows_where_its_replicas_are(
    org: Organization, other: Organization, deployment: dict[str, Any]
) -> None:
    """To its own organization."""

    def replicas() -> int:
        nodes = org.caller.read("/nodes")["data"]
        return sum(
            each["replicas"]
            for node in nodes
            for each in node["deployments"]
            if each["id"] == deployment["id"]
        )

    until(lambda: replicas() == 1, timeout_s=240, what="its one replica on a node")
    assert deployment["id"] not in other.caller.get("/nodes").text


@sentence("nodes-8")
def test_the_scope_admin_is_needed(org: Organization) -> None:
    error = error_of(org.scoped("read", "write", "predict").get("/nodes"), 403, "insufficient_scope")
    assert "admin" in error["message"]
    assert org.scoped("admin").get("/nodes").status_code == 200


@sentence("nodes-1", "nodes-3", "nodes-4", "nodes-5")
@pytest.mark.anyio
async def test_nobody_sees_what_others_have_there(bench: Bench) -> None:
    """Dead nodes stay in the list, with nothing on them and for no region."""
    occupants = [
        Occupant(DEMO_ORG, "dep_1", 1),
        Occupant("org_b", "dep_2", 2),
        Occupant(PUBLIC_ORG, "dep_3", 3),
    ]
    await bench.services.nodes.write([a_node(1, occupants), a_node(2, is_alive=False)])
    dead, alive = (await bench.request("GET", "/nodes")).json()["data"]
    assert alive["deployments"] == [{"id": "dep_1", "replicas": 1}, {"id": "dep_3", "replicas": 3}]
    assert (alive["cpus"], REGION in alive["regions"]) == ({"total": 2.0, "free": 1.5}, True)
    assert (dead["alive"], dead["cpus"], dead["regions"]) == (False, {"total": 0.0, "free": 0.0}, [])
    stranger = await bench.add_key("org_c", Scope.ADMIN)
    found = (await bench.request("GET", "/nodes", key=stranger)).json()["data"][1]
    assert found["deployments"] == [{"id": "dep_3", "replicas": 3}]


@sentence("nodes-7")
@pytest.mark.anyio
async def test_by_descending_id(bench: Bench) -> None:
    """Page by page, also behind a node that is gone since."""
    await bench.services.nodes.write([a_node(number) for number in (3, 1, 5)])

    async def page(query: str) -> tuple[list[int], bool]:
        found = (await bench.request("GET", f"/nodes?{query}")).json()
        return [int(each["id"], 16) for each in found["data"]], found["has_more"]

    assert await page("limit=2") == ([5, 3], True)
    assert await page(f"limit=2&starting_after={3:056x}") == ([1], False)
    assert await page(f"limit=3&starting_after={4:056x}") == ([3, 1], False)


@sentence("nodes-6")
@pytest.mark.anyio
async def test_what_nobody_has_seen_lately_is_not_answered(bench: Bench) -> None:
    """And says where to look."""
    answer = await bench.request("GET", "/nodes")
    error = error_of(answer, 503, "unavailable")
    assert "/readyz" in error["message"]
    assert int(answer.headers["retry-after"]) >= 1
