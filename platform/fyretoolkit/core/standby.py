"""Standby replicas: which idle applications there are to be, and which of them a deployment may take.

Starting a process that can run a model takes seconds, giving a running one its model a tenth of one. So a few
applications of one replica each run without a model, one pool for each shape that deployments ask for. One that was
taken belongs to its deployment for good: it is never given back, since what a stranger's model left in a process is
nobody else's to inherit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fyretoolkit.core.capacity import Ask
from fyretoolkit.core.deployments import Application, ApplicationState, RemoveApplication

PREFIX = "sby"


@dataclass(frozen=True, slots=True)
class Pools:
    """What is kept ready."""

    shapes: Sequence[Ask]
    size: int
    """Idle replicas of each shape; 0: none."""


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


def plan_standby(
    observed: Sequence[Application], claims: Claims, pools: Pools, *, is_busy: bool, lacking: Collection[str]
) -> list[StartStandby | RemoveApplication]:
    """What brings the pools to their size, one application at a time.

    `observed` are the standby applications alone. `is_busy`: a deployment is on its way, and its start goes first.
    `lacking` are resources that deployments wait for: nothing stands idle with any of those.
    """
    own = [
        each
        for each in observed
        if each.name not in claims.owned and each.state is not ApplicationState.DELETING
    ]
    useless = {each.name for each in own if _is_useless(each, claims, pools) or _holds(each.ask, lacking)}
    kept = [each for each in own if each.name not in useless]
    commands: list[StartStandby | RemoveApplication] = [RemoveApplication(name) for name in sorted(useless)]
    for ask in pools.shapes:
        alike = sorted(each.name for each in kept if each.ask == ask)
        commands += [RemoveApplication(name) for name in alike[pools.size :]]
    is_starting = any(each.state is ApplicationState.STARTING for each in kept)
    if not (is_busy or is_starting):
        commands += [each for each in _missing(kept, pools) if not _holds(each.ask, lacking)][:1]
    return commands


def _is_useless(application: Application, claims: Claims, pools: Pools) -> bool:
    is_broken = application.state in (ApplicationState.FAILED, ApplicationState.UNHEALTHY)
    is_unknown = application.ask is not None and application.ask not in pools.shapes
    return is_broken or is_unknown or application.shortage is not None or application.name in claims.assigned


def _holds(ask: Ask | None, lacking: Collection[str]) -> bool:
    return ask is not None and any(name in ask.resources for name in lacking)


def _missing(kept: Sequence[Application], pools: Pools) -> Iterator[StartStandby]:
    for ask in pools.shapes:
        count = sum(each.ask in (ask, None) for each in kept)
        yield from (StartStandby(ask) for _ in range(pools.size - count))
