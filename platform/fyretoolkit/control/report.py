"""What the controller shows a scraper: how many deployments and jobs there are, in which state, and itself.

A loop of its own in the controller, so that a reconciler that hangs is seen from here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.exposition import Served
from fyretoolkit.core.lifecycles import DeploymentStatus, JobStatus
from fyretoolkit.serving.exposition import Gauges
from fyretoolkit.store.deliveries import DeliveryStore
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.jobs import JobStore

_EVERY_S = 4.0
"""Ray exports every 10 s, and forgets after 20 s."""
_SHOWN_DEPLOYMENTS = tuple(status for status in DeploymentStatus if status is not DeploymentStatus.DELETED)
_SHOWN_JOBS = (JobStatus.QUEUED, JobStatus.PROCESSING)
MAX_DEPLOYMENTS = 500
"""Whose replicas are shown."""


class Reporter:
    """Looks at the store, and tells Ray's exporter."""

    def __init__(
        self,
        gauges: Gauges,
        deployments: DeploymentStore,
        jobs: JobStore,
        deliveries: DeliveryStore,
        *,
        silence_s: Callable[[], float],
        inspections: Callable[[], int],
        standby: Callable[[], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`silence_s`: since when the slowest loop has not looked; `inspections`: how many are under way; `standby`:
        how many replicas stand by, by what is said of the number.
        """
        self._gauges = gauges
        self._deployments = deployments
        self._jobs = jobs
        self._deliveries = deliveries
        self._silence_s = silence_s
        self._inspections = inspections
        self._standby = standby
        self._clock = clock
        self._due = clock()

    async def tick(self) -> bool:
        """Show what there is, if that was not done just now. False: nothing of it is in a hurry."""
        if self._clock() < self._due:
            return False
        self._due = self._clock() + _EVERY_S
        self._gauges.set("fyre_controller_silence_seconds", self._silence_s(), {})
        self._gauges.set("fyre_inspections", self._inspections(), {})
        for state, replicas in self._standby().items():
            self._gauges.set("fyre_standby_replicas", replicas, {"state": state})
        self._show_deployments(await self._deployments.live())
        jobs = Counter(job.status for job in await self._jobs.open_jobs())
        for job_status in _SHOWN_JOBS:
            self._gauges.set("fyre_jobs", jobs[job_status], {"status": job_status})
        for state, count in (await self._deliveries.counts()).items():
            self._gauges.set("fyre_webhook_deliveries", count, {"state": state})
        return False

    def _show_deployments(self, deployments: Sequence[Deployment]) -> None:
        statuses = Counter(deployment.status for deployment in deployments)
        for status in _SHOWN_DEPLOYMENTS:
            self._gauges.set("fyre_deployments", statuses[status], {"status": status})
        provisioning = [each.created for each in deployments if each.status is DeploymentStatus.PROVISIONING]
        age_s = time.time() - min(provisioning) if provisioning else 0.0
        self._gauges.set("fyre_provisioning_age_seconds", max(0.0, age_s), {})
        serving = [each for each in deployments if _is_serving(each)]
        for each in serving[:MAX_DEPLOYMENTS]:
            served = Served(each.id, each.model, each.region)._asdict()
            for state, replicas in (("desired", each.desired_replicas), ("ready", each.ready_replicas)):
                self._gauges.set("fyre_deployment_replicas", replicas, {**served, "state": state})


def _is_serving(deployment: Deployment) -> bool:
    return deployment.status in (DeploymentStatus.READY, DeploymentStatus.DEGRADED)
