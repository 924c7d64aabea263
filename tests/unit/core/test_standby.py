"""How many replicas stand by, and which may be taken. No clock, no Ray, no Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.core.capacity import Ask, Holding, Node, Shortage
from fyretoolkit.core.deployments import Application, ApplicationState, RemoveApplication
from fyretoolkit.core.ids import made_at, new_id
from fyretoolkit.core.standby import (
    PREFIX,
    Claims,
    Pools,
    StartStandby,
    Surroundings,
    idle,
    is_short,
    plan_standby,
)

SMALL, GPU = Ask({"CPU": 0.1}, {}), Ask({"CPU": 1.0, "GPU": 1.0}, {})
POOLS = Pools([SMALL], size=1)
NOBODY = Claims(frozenset(), frozenset())
A, B, G = (new_id(PREFIX) for _ in range(3))
MADE_AT = made_at(A)
ROOMY = Node({}, {"CPU": 8.0, "GPU": 8.0})


def standby(name: str, state: str = "running", running: int = 1, **more: Any) -> Application:
    """An application that stands by."""
    return Application(name, ApplicationState(state), running, **{"ask": SMALL, **more})


def planned(
    observed: list[Application],
    claims: Claims = NOBODY,
    pools: Pools = POOLS,
    *,
    after_s: float = 1.0,
    **more: Any,
) -> list[StartStandby | RemoveApplication]:
    """On nodes with room for everybody, so many seconds after those were made that stand by."""
    around = Surroundings(**{"now": MADE_AT + after_s, "nodes": [ROOMY], **more})
    return plan_standby(observed, claims, pools, around)


@pytest.mark.parametrize(
    ("observed", "claims"),
    [
        ([standby(A)], Claims({A}, {A})),
        ([standby(A)], Claims({A}, frozenset())),
        ([standby(A)], Claims(frozenset(), {A})),
        ([standby(A, running=0)], NOBODY),
        ([standby(A, "starting", 0)], NOBODY),
        ([standby(A, "unhealthy", 0)], NOBODY),
        ([standby(A, "deleting")], NOBODY),
        ([standby(A, ask=GPU)], NOBODY),
        ([standby(A, ask=None)], NOBODY),
    ],
)
def test_who_is_never_handed_out(observed: list[Application], claims: Claims) -> None:
    """One that somebody has or had, one that is dead or dying, one of another shape."""
    assert idle(observed, claims, POOLS) == []


def test_who_may_be_taken() -> None:
    """One that runs and that nobody ever had."""
    assert idle([standby(A), standby(B)], Claims({B}, {B}), POOLS) == [standby(A)]


@pytest.mark.parametrize(
    ("observed", "claims", "commands"),
    [
        ([], NOBODY, [StartStandby(SMALL)]),
        ([standby(A)], NOBODY, []),
        ([standby(A, "starting", 0)], NOBODY, []),
        ([standby(A, "starting", 0, ask=None)], NOBODY, []),
        ([standby(A)], Claims({A}, {A}), [StartStandby(SMALL)]),
        ([standby(A)], Claims({A}, frozenset()), [StartStandby(SMALL)]),
        ([standby(A)], Claims(frozenset(), {A}), [RemoveApplication(A), StartStandby(SMALL)]),
        ([standby(A, "unhealthy", 0)], NOBODY, [RemoveApplication(A), StartStandby(SMALL)]),
        ([standby(A, "failed", 0)], NOBODY, [RemoveApplication(A), StartStandby(SMALL)]),
        ([standby(A, "deleting", 0)], NOBODY, [StartStandby(SMALL)]),
        ([standby(A, ask=GPU)], NOBODY, [RemoveApplication(A), StartStandby(SMALL)]),
        ([standby(B), standby(A)], NOBODY, [RemoveApplication(B)]),
    ],
)
def test_the_pool_has_its_size(
    observed: list[Application], claims: Claims, commands: list[StartStandby | RemoveApplication]
) -> None:
    """Refilled behind each that is taken; what is broken, spent, of an unknown shape or one too many goes."""
    assert planned(observed, claims) == commands


def test_one_starts_at_a_time() -> None:
    """A pool that fills takes no more of the machine than that."""
    pools = Pools([SMALL, GPU], size=2)
    assert planned([], pools=pools) == [StartStandby(SMALL)]
    assert planned([standby(A, "starting", 0)], pools=pools) == []
    assert planned([standby(A), standby(B)], pools=pools) == [StartStandby(GPU)]


def test_deployments_go_first() -> None:
    """While one is on its way nothing is started beside it; what stands by stays, it may want it."""
    assert planned([], is_busy=True) == []
    assert planned([standby(A)], is_busy=True) == []


def test_a_full_machine_is_left_alone() -> None:
    """One that found no room is withdrawn and no other one takes its place, at every tick anew."""
    full = [Node({}, {"CPU": 0.05})]
    waiting = standby(A, "starting", 0, shortage=Shortage(SMALL, {"CPU": 0.05}))
    assert planned([waiting], nodes=full) == [RemoveApplication(A)]
    assert planned([], nodes=full) == []
    assert planned([], nodes=[]) == []
    assert planned([], pools=Pools([GPU, SMALL], 1), nodes=[Node({}, {"CPU": 1.0})]) == [StartStandby(SMALL)]


def test_one_without_room_of_its_own_gives_up_its_place() -> None:
    """It would wait for room for ever, in front of deployments. Where there is room by now another one is started."""
    waiting = standby(A, "starting", 0, shortage=Shortage(SMALL, {"CPU": 0.0}))
    assert planned([waiting]) == [RemoveApplication(A), StartStandby(SMALL)]


def test_one_that_never_comes_up_is_replaced() -> None:
    """No worker could be started, or a node does not answer: no shortage is ever found."""
    pools = replace(POOLS, start_s=60)
    stuck = standby(A, "starting", 0)
    assert planned([stuck], pools=pools, after_s=59) == []
    assert planned([stuck], pools=pools, after_s=61) == [RemoveApplication(A), StartStandby(SMALL)]
    assert planned([standby(A)], pools=pools, after_s=61) == []


def test_a_slow_start_does_not_hold_up_other_shapes() -> None:
    """One at a time, unless it takes ten seconds."""
    pools = Pools([SMALL, GPU], size=1)
    slow = standby(G, "starting", 0, ask=GPU)
    assert planned([slow], pools=pools, after_s=9) == []
    assert planned([slow], pools=pools, after_s=11) == [StartStandby(SMALL)]


def node(free: dict[str, float], *held: str, **labels: str) -> Node:
    """Where these stand by, each with a CPU; that of a GPU with one."""
    holdings = {name: [Holding({"CPU": 1.0, **({"GPU": 1.0} if name == G else {})})] for name in held}
    return Node(labels, {"CPU": 0.0, "GPU": 0.0, **free}, held=holdings)


@pytest.mark.parametrize(
    ("wanted", "nodes", "leaving"),
    [
        ({"GPU": 1.0}, [node({}, A, B, G)], [G]),
        ({"CPU": 1.0}, [node({}, A, B, G)], [B]),
        ({"CPU": 2.0}, [node({}, A, B, G)], [A, B]),
        ({"CPU": 3.0}, [node({}, A, B, G)], [A, B, G]),
        ({"CPU": 2.0}, [node({"CPU": 1.0}, A), node({}, B, G)], [A]),
        ({"CPU": 2.0}, [node({}, A), node({}, B), node({}, G)], []),
        ({"CPU": 64.0}, [node({"CPU": 1.0}, A, B, G)], []),
        ({"GPU": 2.0}, [node({"CPU": 1.0}, A, B, G)], []),
    ],
)
def test_who_stands_by_makes_room(wanted: dict[str, float], nodes: list[Node], leaving: list[str]) -> None:
    """As few as are in the way of a deployment, all of one node; none where all of them would not be enough.

    Who asks for CPUs alone does not take the replica that has a GPU, unless there is no other way.
    """
    pools = Pools([SMALL, GPU], size=2)
    all_three = [standby(A), standby(B), standby(G, ask=GPU)]
    found = planned(all_three, pools=pools, nodes=nodes, waiting=[Ask(wanted, {})], is_busy=True)
    assert found == [RemoveApplication(name) for name in leaving]


def test_another_region_keeps_what_it_has() -> None:
    """What stands by there is of no use here."""
    nodes = [node({}, A, region="eu"), node({}, B, region="us")]
    found = planned(
        [standby(A), standby(B)],
        pools=Pools([SMALL], 2),
        nodes=nodes,
        waiting=[Ask({"CPU": 1.0}, {"region": "us"})],
    )
    assert found == [RemoveApplication(B)]


def test_room_that_one_leaves_behind_is_counted() -> None:
    """It is on its way out for a deployment that waits: a second one is not sent after it."""
    both = [standby(A, "deleting"), standby(B)]
    waiting = [Ask({"CPU": 1.0}, {})]
    assert planned(both, nodes=[node({}, A, B)], waiting=waiting) == []


def test_a_deployment_that_waits_comes_first_where_it_can_be_helped() -> None:
    """Nothing is started with room that it could have. What it could never use fills up: one that asks for 64 CPUs
    on two cores and waits for an hour switches nothing off."""
    pools = Pools([SMALL], size=2)
    here = [node({"CPU": 0.5}, A)]
    assert planned([standby(A)], pools=pools, nodes=here, waiting=[Ask({"CPU": 1.5}, {})], is_busy=False) == [
        RemoveApplication(A)
    ]
    assert planned([standby(A, "deleting")], pools=pools, nodes=here, waiting=[Ask({"CPU": 1.5}, {})]) == []
    impossible = [Ask({"CPU": 64.0}, {}), Ask({"CPU": 0.5}, {"region": "us"})]
    assert planned([standby(A)], pools=pools, nodes=here, waiting=impossible) == [StartStandby(SMALL)]


def test_when_more_are_wanted() -> None:
    """Nobody asks nodes for room while the pool has its size."""
    assert is_short([], NOBODY, POOLS, MADE_AT)
    assert not is_short([standby(A)], NOBODY, POOLS, MADE_AT)
    assert not is_short([standby(A, "starting", 0, ask=None)], NOBODY, POOLS, MADE_AT)
    for gone in (standby(A, "deleting"), standby(A, "unhealthy", 0)):
        assert is_short([gone], NOBODY, POOLS, MADE_AT)
    assert is_short([standby(A)], Claims({A}, {A}), POOLS, MADE_AT)
    assert not is_short([], NOBODY, replace(POOLS, size=0), MADE_AT)


def test_switched_off_nothing_stands_by() -> None:
    """What stood by from before goes; what deployments have of it is theirs."""
    pools = replace(POOLS, size=0)
    assert planned([standby(A), standby(B)], Claims({A}, {A}), pools) == [RemoveApplication(B)]
    assert planned([], pools=pools) == []
