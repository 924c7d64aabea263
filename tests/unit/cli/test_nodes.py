"""`fyre nodes`."""

from __future__ import annotations

from fyretoolkit.core.nodes import Occupant
from fyretoolkit.core.organizations import DEMO_ORG
from tests.support.cluster import a_node
from tests.support.fyre_command import Fyre


def test_nodes_with_what_is_free_and_what_is_there(fyre: Fyre) -> None:
    """A line each; a dead one has nothing to say but that."""
    alive, dead = a_node(0, [Occupant(DEMO_ORG, "dep_1", 2)]), a_node(1, is_alive=False)
    fyre.act(fyre.bench.services.nodes.write, [alive, dead])
    head, *lines = (line.split("\t") for line in fyre.done("nodes").splitlines())
    assert head == ["id", "status", "regions", "CPUs free", "GPUs free", "memory free", "replicas"]
    assert lines[0] == [dead.id[:12], "dead", "", "", "", "", ""]
    assert lines[1][:2] == [alive.id[:12], "head"]
    assert "us-east-1" in lines[1][2]
    assert lines[1][3:] == ["1.5 of 2", "", "1.0 GiB of 2.0 GiB", "dep_1×2"]
    assert [node["id"] for node in fyre.json("nodes")["data"]] == [dead.id, alive.id]
