"""Moving the traffic of a model between its deployments in one step: to a new one, and back.

Weights are relative, so a change of one deployment alone cannot say "all of it". What a promotion took from the others
is kept with the deployment that got it: going back needs no memory of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus

ALL = 100
_ANSWERS = (DeploymentStatus.READY, DeploymentStatus.DEGRADED)


@dataclass(frozen=True, slots=True)
class Shift:
    """What the weights are to be, of all deployments that are looked at; `replaced`: what `target` is to remember."""

    target: Deployment
    weights: Mapping[str, int]
    replaced: Mapping[str, int] | None


def plan_promotion(target: Deployment, siblings: Sequence[Deployment]) -> Shift:
    """All traffic to `target`. `siblings` are the model's other live deployments.

    Raises:
        PlatformError: `deployment_not_changeable`, it is not ready.
    """
    if target.status is not DeploymentStatus.READY:
        raise PlatformError(
            "deployment_not_changeable",
            f"The deployment is {target.status}: traffic goes to one that is ready. "
            f"GET /deployments/{target.id} says how far it is.",
        )
    taken = {each.id: each.traffic for each in siblings if each.traffic}
    weights = {target.id: ALL, **dict.fromkeys(taken, 0)}
    return Shift(target, weights, taken or target.replaced)


def plan_rollback(target: Deployment, siblings: Sequence[Deployment]) -> Shift:
    """No traffic to `target`; to the others what they had before its promotion, or have.

    Where none of those answers, all goes to the newest other one that does.

    Raises:
        PlatformError: `deployment_not_changeable`, no other deployment of the model could take the traffic.
    """
    live = {each.id: each for each in siblings if each.status in LIVE_DEPLOYMENT}
    before = target.replaced or {}
    weights = {name: before.get(name, each.traffic) for name, each in live.items()}
    answering = [each for each in live.values() if each.status in _ANSWERS]
    if not any(weights[each.id] for each in answering):
        if not answering:
            raise PlatformError(
                "deployment_not_changeable",
                "No other deployment of the model is ready, so there is none to go back to. "
                "Create one with POST /deployments.",
            )
        weights[max(answering, key=lambda each: each.id).id] = ALL
    changed = {name: weight for name, weight in weights.items() if weight != live[name].traffic}
    return Shift(target, {**changed, target.id: 0}, None)
