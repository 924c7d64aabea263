"""Nodes as the controller would have seen them, where no Ray runs."""

from __future__ import annotations

from collections.abc import Sequence

from fyretoolkit.core.nodes import Amount, NodeState, Occupant

REGION = "us-east-1"
_NOTHING = Amount(0, 0)


def a_node(number: int, occupants: Sequence[Occupant] = (), *, is_alive: bool = True) -> NodeState:
    """The node with this number: two CPUs, half of one in use; a dead one has nothing."""
    return NodeState(
        id=f"{number:056x}",
        is_alive=is_alive,
        is_head=is_alive and number == 0,
        labels={"region": REGION},
        cpus=Amount(2, 1.5) if is_alive else _NOTHING,
        gpus=_NOTHING,
        memory_bytes=Amount(2**31, 2**30) if is_alive else _NOTHING,
        occupants=tuple(occupants),
        observed_at=1_795_379_913,
    )
