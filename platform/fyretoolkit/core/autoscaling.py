"""How many replicas a deployment needs, from what its replicas last reported.

Ray Serve's own policy counts ongoing requests per replica. Behind a queue that lets two calls at a time through to each
replica that number never exceeds two, however long the queue is, so it sees no overload. Two other signals do: how long
requests wait in that queue, and which share of its time each replica's model computes. While requests wait too long
more replicas are wished, at most twice as many as run (what is seen of an overload says little about its size); else as
many as bring the share near its goal. How long a wish must last before it counts is Serve's business (its upscale and
downscale delays).
Source: the rule "scale by measured utilization, with a tolerance" is that of Kubernetes' horizontal autoscaler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CALM = 0.8
"""Replicas are let go only if those that stay are busy for less than this part of the goal: a load at the border
between two numbers must not make replicas come and go."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica said of its last seconds."""

    busy: float
    """Share of the time that its model computed, 0 to 1."""
    waiting_s: float
    """How long a request that comes to an ingress waits for those before it, by the longest that it was told of."""
    queued: float
    """Requests in the ingresses' queues. While there are none, what waits is waiting for one inference to end, which
    no further replica would make shorter."""

    def is_late(self, wait_s: float) -> bool:
        """Whether requests wait for longer than this because there is no replica for them."""
        return self.queued > 0 and self.waiting_s > wait_s


@dataclass(frozen=True, slots=True)
class Goals:
    """What autoscaling aims at."""

    wait_s: float = 0.1
    """Requests that wait longer call for more replicas."""
    utilization: float = 0.7
    """The share of its time that a replica computes, where requests do not wait."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas there are and may be."""

    running: int
    target: int
    """How many are aimed at: differs from `running` while some start or stop."""
    fewest: int
    most: int

    def bounded(self, replicas: int) -> int:
        """The nearest number that is allowed."""
        return min(max(replicas, self.fewest), self.most)


def wished_replicas(
    reports: Sequence[Report], scale: Scale, *, goals: Goals, waiting_calls: float = 0.0
) -> int:
    """How many replicas there should be.

    `reports` are those of running replicas; one that runs and is missing has not reported yet, and none is let go
    before it has. `waiting_calls` wait for a deployment to have a replica at all.
    """
    if not reports:
        return scale.bounded(max(scale.target, 1) if waiting_calls > 0 else scale.target)
    busy = sum(report.busy for report in reports)
    needed = math.ceil(busy / goals.utilization)
    if any(report.is_late(goals.wait_s) for report in reports):
        return scale.bounded(max(scale.target, min(max(needed, scale.running + 1), 2 * scale.running)))
    if needed > scale.target:
        return scale.bounded(max(scale.target, min(needed, 2 * scale.running)))
    if len(reports) < scale.running:
        return scale.bounded(scale.target)
    is_used = busy > 0 or any(report.queued > 0 for report in reports)
    enough = max(math.ceil(busy / (goals.utilization * _CALM)), 1 if is_used else 0)
    return scale.bounded(min(enough, scale.target))
