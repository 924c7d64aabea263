"""The autoscaling policy of model deployments, as Ray Serve's controller runs it.

Serve pickles this module by value and calls the policy ten times a second, for each deployment with bounds. Delays and
bounds are Serve's: a wish counts once it lasted. An error here would stop the control loop of all deployments, so
nothing is assumed of what replicas reported. Source: ray 2.60, `serve/_private/autoscaling_state.py`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ray.serve.config import AutoscalingContext

from fyretoolkit.core.autoscaling import Goals, Report, Scale, wished_replicas

_STALE_S = 10.0
"""A replica that reported nothing for longer counts as one that has not reported yet."""


class QueuePolicy:
    """Wishes by how long requests wait in the ingresses and how busy replicas are (`core.autoscaling`)."""

    def __init__(self, target_wait_s: float, target_utilization: float) -> None:
        self._goals = Goals(target_wait_s, target_utilization)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas wished, and a state that stays empty."""
        scale = Scale(
            running=context.current_num_replicas,
            target=context.target_num_replicas,
            fewest=context.capacity_adjusted_min_replicas,
            most=context.capacity_adjusted_max_replicas,
        )
        wished = wished_replicas(
            _reports(context), scale, goals=self._goals, waiting_calls=context.total_num_requests
        )
        return wished, {}


def _reports(context: AutoscalingContext) -> list[Report]:
    """The last report of each running replica that sent one."""
    metrics = context.raw_metrics or {}
    oldest = (context.current_time or 0.0) - _STALE_S
    reports = []
    for replica in context.running_replicas:
        found = [_latest(metrics.get(field.name, {}).get(replica), oldest) for field in fields(Report)]
        values = [value for value in found if value is not None]
        if len(values) == len(found):
            reports.append(Report(*values))
    return reports


def _latest(series: Any, oldest: float) -> float | None:
    """The newest value of a time series, if it is not older."""
    if not series or series[-1].timestamp < oldest:
        return None
    return float(series[-1].value)
