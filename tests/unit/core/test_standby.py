"""How many replicas stand by, and which may be taken. No clock, no Ray, no Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fyretoolkit.core.capacity import Ask, Shortage
from fyretoolkit.core.deployments import Application, ApplicationState, RemoveApplication
from fyretoolkit.core.standby import Claims, Pools, StartStandby, idle, plan_standby

SMALL, GPU = Ask({"CPU": 0.1}, {}), Ask({"CPU": 1.0, "GPU": 1.0}, {})
POOLS = Pools([SMALL], size=1)
NOBODY = Claims(frozenset(), frozenset())


def standby(name: str, state: str = "running", running: int = 1, **more: Any) -> Application:
    """An application that stands by."""
    return Application(name, ApplicationState(state), running, **{"ask": SMALL, **more})


def planned(
    observed: list[Application],
    claims: Claims = NOBODY,
    pools: Pools = POOLS,
    *,
    is_busy: bool = False,
    lacking: frozenset[str] = frozenset(),
) -> list[StartStandby | RemoveApplication]:
    return plan_standby(observed, claims, pools, is_busy=is_busy, lacking=lacking)


@pytest.mark.parametrize(
    ("observed", "claims"),
    [
        ([standby("a")], Claims({"a"}, {"a"})),
        ([standby("a")], Claims({"a"}, frozenset())),
        ([standby("a")], Claims(frozenset(), {"a"})),
        ([standby("a", running=0)], NOBODY),
        ([standby("a", "starting", 0)], NOBODY),
        ([standby("a", "unhealthy", 0)], NOBODY),
        ([standby("a", "deleting")], NOBODY),
        ([standby("a", ask=GPU)], NOBODY),
        ([standby("a", ask=None)], NOBODY),
    ],
)
def test_who_is_never_handed_out(observed: list[Application], claims: Claims) -> None:
    """One that somebody has or had, one that is dead or dying, one of another shape."""
    assert idle(observed, claims, POOLS) == []


def test_who_may_be_taken() -> None:
    """One that runs and that nobody ever had."""
    assert idle([standby("a"), standby("b")], Claims({"b"}, {"b"}), POOLS) == [standby("a")]


@pytest.mark.parametrize(
    ("observed", "claims", "commands"),
    [
        ([], NOBODY, [StartStandby(SMALL)]),
        ([standby("a")], NOBODY, []),
        ([standby("a", "starting", 0)], NOBODY, []),
        ([standby("a", "starting", 0, ask=None)], NOBODY, []),
        ([standby("a")], Claims({"a"}, {"a"}), [StartStandby(SMALL)]),
        ([standby("a")], Claims({"a"}, frozenset()), [StartStandby(SMALL)]),
        ([standby("a")], Claims(frozenset(), {"a"}), [RemoveApplication("a"), StartStandby(SMALL)]),
        ([standby("a", "unhealthy", 0)], NOBODY, [RemoveApplication("a"), StartStandby(SMALL)]),
        ([standby("a", "failed", 0)], NOBODY, [RemoveApplication("a"), StartStandby(SMALL)]),
        ([standby("a", "deleting", 0)], NOBODY, [StartStandby(SMALL)]),
        ([standby("a", ask=GPU)], NOBODY, [RemoveApplication("a"), StartStandby(SMALL)]),
        ([standby("b"), standby("a")], NOBODY, [RemoveApplication("b")]),
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
    assert planned([standby("a", "starting", 0)], pools=pools) == []
    assert planned([standby("a"), standby("b")], pools=pools) == [StartStandby(GPU)]


def test_deployments_go_first() -> None:
    """While one is on its way nothing is started beside it; what stands by stays, it may want it."""
    assert planned([], is_busy=True) == []
    assert planned([standby("a")], is_busy=True) == []


def test_who_stands_by_makes_room() -> None:
    """A deployment waits for a GPU that an idle replica holds: that goes. One that holds none would help nobody."""
    pools = Pools([SMALL, GPU], size=1)
    both = [standby("a"), standby("g", ask=GPU)]
    lacking = frozenset({"GPU"})
    assert planned(both, pools=pools, lacking=lacking) == [RemoveApplication("g")]
    assert planned([standby("a")], pools=pools, lacking=lacking) == []
    assert planned([], pools=pools, lacking=lacking) == [StartStandby(SMALL)]


def test_one_without_room_of_its_own_gives_up_its_place() -> None:
    """It would wait for room for ever, in front of deployments."""
    waiting = standby("a", "starting", 0, shortage=Shortage(SMALL, {"CPU": 0.0}))
    assert planned([waiting]) == [RemoveApplication("a"), StartStandby(SMALL)]


def test_switched_off_nothing_stands_by() -> None:
    """What stood by from before goes; what deployments have of it is theirs."""
    pools = replace(POOLS, size=0)
    assert planned([standby("a"), standby("b")], Claims({"a"}, {"a"}), pools) == [RemoveApplication("b")]
    assert planned([], pools=pools) == []
