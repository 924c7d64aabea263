"""Standby replicas: which idle applications there are to be, and which of them a deployment may take.

Starting a process that can run a model takes seconds, giving a running one its model a tenth of one. So a few
applications of one replica each run without a model, one pool for each shape that deployments ask for. One that was
taken belongs to its deployment for good: it is never given back, since what a stranger's model left in a process is
nobody else's to inherit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fyretoolkit.core.capacity import Ask, Node, has_room
from fyretoolkit.core.deployments import Application, ApplicationState, RemoveApplication
from fyretoolkit.core.ids import made_at

PREFIX = "sby"
PATIENCE_S = 10.0
"""How long a start is put off for what is under way, be it one before or a deployment: then it is taken for stuck."""


@dataclass(frozen=True, slots=True)
class Pools:
    """What is kept ready."""

    shapes: Sequence[Ask]
    size: int
    """Idle replicas of each shape; 0: none."""
    start_s: float = 90.0
    """What is not up by then never will be."""


@dataclass(frozen=True, slots=True)
class StartStandby:
    """Start one more application without a model."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Claims:
    """Who has what of the standby applications."""

    owned: Collection[str]
    """The applications that deployments have by now."""
    assigned: Collection[str]
    """Those that were given a model, looked up before `owned` was: one that nobody owns is spent."""


def idle(observed: Iterable[Application], claims: Claims, pools: Pools) -> list[Application]:
    """Those that a deployment may take: of a shape that is kept, up, and never given to anybody."""
    return [
        each
        for each in observed
        if each.ask in pools.shapes
        and each.state is ApplicationState.RUNNING
        and each.running_replicas > 0
        and each.name not in claims.owned
        and each.name not in claims.assigned
    ]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else there was at a look."""

    now: float
    nodes: Sequence[Node] = ()
    """Those that are alive; none: not asked for, so nothing is known to have room."""
    waiting: Sequence[Ask] = ()
    """What deployments ask for that wait for room."""
    is_busy: bool = False
    """Whether a deployment is on its way: its start goes first."""


def plan_standby(
    observed: Sequence[Application], claims: Claims, pools: Pools, around: Surroundings
) -> list[StartStandby | RemoveApplication]:
    """What brings the pools to their size, one application at a time.

    `observed` are the standby applications alone. Where a deployment waits for room, as many of them go as give it
    that, and none if all would not; and none is started where one waits that these could make room for.
    """
    own = [each for each in observed if each.name not in claims.owned]
    names = {each.name for each in own}
    leaving = {each.name for each in own if _is_leaving(each, claims, pools, around.now)}
    for ask in pools.shapes:
        alike = sorted(each.name for each in own if each.ask == ask and each.name not in leaving)
        leaving.update(alike[pools.size :])
    leaving |= _in_the_way(names, leaving, around)
    kept = [each for each in own if each.name not in leaving]
    commands: list[StartStandby | RemoveApplication] = [
        RemoveApplication(each.name)
        for each in sorted(own, key=lambda each: each.name)
        if each.name in leaving and each.state is not ApplicationState.DELETING
    ]
    is_first_starting = any(
        _is_starting(each) and around.now - made_at(each.name) <= PATIENCE_S for each in kept
    )
    if not (around.is_busy or is_first_starting):
        commands += [each for each in _missing(kept, pools) if _may_start(each.ask, names, around)][:1]
    return commands


def _is_leaving(application: Application, claims: Claims, pools: Pools, now: float) -> bool:
    """Whether it is of no use, or on its way out."""
    is_over = application.state in (
        ApplicationState.FAILED,
        ApplicationState.UNHEALTHY,
        ApplicationState.DELETING,
    )
    is_unknown = application.ask is not None and application.ask not in pools.shapes
    is_stuck = _is_starting(application) and now - made_at(application.name) > pools.start_s
    is_spent = application.name in claims.assigned
    return is_over or is_unknown or is_stuck or is_spent or application.shortage is not None


def _is_starting(application: Application) -> bool:
    return application.state is ApplicationState.STARTING


def _in_the_way(own: Collection[str], leaving: Collection[str], around: Surroundings) -> set[str]:
    """Those that have to go, beside those that do already, so that deployments which wait find room."""
    going = set(leaving)
    for ask in around.waiting:
        ways = (_enough(ask, node, own, going) for node in around.nodes)
        going |= min((each for each in ways if each is not None), key=len, default=set())
    return going.difference(leaving)


def _enough(ask: Ask, node: Node, own: Collection[str], going: Collection[str]) -> set[str] | None:
    """Of those that stand by on a node, as few as make room, first those without anything that is not asked for.

    None: not all of them together would.
    """

    def spared(name: str) -> tuple[int, str]:
        kinds = {kind for holding in node.held[name] for kind in holding.resources}
        return -len(kinds - ask.resources.keys()), name

    chosen = {name for name in node.held if name in own}.difference(going)
    if not has_room(ask, node.without(chosen.union(going))):
        return None
    for name in sorted(chosen, key=spared):
        if has_room(ask, node.without(chosen.union(going) - {name})):
            chosen.remove(name)
    return chosen


def _may_start(ask: Ask, own: Collection[str], around: Surroundings) -> bool:
    """Whether there is room now that no deployment could have: none that waits, were all gone that stand by."""
    possible = [node for node in around.nodes if has_room(ask, node)]
    is_wanted = any(has_room(each, node.without(own)) for node in possible for each in around.waiting)
    return bool(possible) and not is_wanted


def is_short(observed: Iterable[Application], claims: Claims, pools: Pools, now: float) -> bool:
    """Whether more are to stand by than do or are about to."""
    own = [each for each in observed if each.name not in claims.owned]
    return any(_missing([each for each in own if not _is_leaving(each, claims, pools, now)], pools))


def _missing(kept: Sequence[Application], pools: Pools) -> Iterator[StartStandby]:
    for ask in pools.shapes:
        count = sum(each.ask in (ask, None) for each in kept)
        yield from (StartStandby(ask) for _ in range(pools.size - count))
