"""The policy inside Serve's own bookkeeping of metrics, delays and bounds; no cluster."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.autoscaling_state import DeploymentAutoscalingState
from ray.serve._private.common import (
    RUNNING_REQUESTS_KEY,
    DeploymentHandleSource,
    DeploymentID,
    HandleMetricReport,
    ReplicaID,
    ReplicaMetricReport,
    TimeStampedValue,
)
from ray.serve._private.config import DeploymentConfig

from fyretoolkit.control import serve_driver
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.settings import AutoscalingSettings

ID = DeploymentID("ModelServer", "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV")
AT_ONCE = AutoscalingSettings(upscale_delay_s=0, downscale_delay_s=0, downscale_to_zero_delay_s=0)
DEPLOYMENT = Deployment(
    id=ID.app_name, org="org_a", status=DeploymentStatus.READY, stage=Stage.READY, model="m",
    model_uri="models://m", region="us-east-1", created=1, updated=1, stage_at=1.0,
)  # fmt: skip


class Serve:
    """Serve's controller, as far as it autoscales one deployment."""

    def __init__(self, fewest: int, most: int, settings: AutoscalingSettings = AT_ONCE) -> None:
        bounds = {"min_replicas": fewest, "max_replicas": most}
        config = serve_driver._autoscaling(
            Deployment(**{**_fields(DEPLOYMENT), "autoscaling": bounds}), settings
        )
        # As it travels to the controller: by protobuf, the policy pickled.
        sent = DeploymentConfig(autoscaling_config=config, num_replicas=None).to_proto_bytes()
        info = SimpleNamespace(
            deployment_config=DeploymentConfig.from_proto_bytes(sent),
            target_capacity=None,
            target_capacity_direction=None,
        )
        self._state = DeploymentAutoscalingState(ID)
        self.target = self._state.register(info, 0)

    def runs(self, *names: str) -> None:
        """These replicas run."""
        self._state.update_running_replica_ids([ReplicaID(name, ID) for name in names])

    def hears(self, name: str, age_s: float = 0, **metrics: Any) -> None:
        """A replica's report."""
        at = time.time() - age_s
        series = {key: [TimeStampedValue(at, value)] for key, value in metrics.items()}
        report = ReplicaMetricReport(replica_id=ReplicaID(name, ID), timestamp=at, metrics=series)
        self._state.record_request_metrics_for_replica(report)

    def hears_of_calls(self, queued: int) -> None:
        """So many calls wait in an ingress's handle."""
        now = time.time()
        report = HandleMetricReport(
            deployment_id=ID,
            handle_id="handle",
            actor_id="actor",
            handle_source=DeploymentHandleSource.REPLICA,
            queued_requests=[TimeStampedValue(now, queued)],
            metrics={RUNNING_REQUESTS_KEY: {}},
            timestamp=now,
        )
        self._state.record_request_metrics_for_handle(report)

    def decides(self) -> int:
        """One turn of the control loop."""
        decided: int = self._state.get_decision_num_replicas(self.target)
        self.target = decided
        return decided


def _fields(record: Deployment) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def test_requests_that_wait_bring_replicas_and_idleness_takes_them() -> None:
    """1 → 2 → 3, by a queue that Serve cannot see → 1, the fewest. Serve's own count, 2 calls, decides nothing."""
    serve = Serve(1, 4)
    serve.runs("a")
    serve.hears("a", busy=1.0, waiting_s=0.4, queued=30.0, **{RUNNING_REQUESTS_KEY: 2})
    assert [serve.decides(), serve.decides()] == [2, 2]
    serve.runs("a", "b")
    serve.hears("b", busy=1.0, waiting_s=0.3, queued=20.0)
    assert serve.decides() == 3
    serve.runs("a", "b", "c")
    for name in "abc":
        serve.hears(name, busy=0.0, waiting_s=0.0, queued=0.0)
    assert serve.decides() == 1


def test_a_call_wakes_one_from_zero_whatever_the_number_of_callers() -> None:
    """Idle: to zero. 50 calls wait: one replica, also while it starts, and after it came before it reported."""
    serve = Serve(0, 4)
    serve.runs("a")
    serve.hears("a", busy=0.0, waiting_s=0.0, queued=0.0)
    assert serve.decides() == 0
    serve.runs()
    assert serve.decides() == 0
    serve.hears_of_calls(50)
    assert [serve.decides(), serve.decides()] == [1, 1]
    serve.hears_of_calls(0)
    assert serve.decides() == 1
    serve.runs("b")
    assert serve.decides() == 1
    serve.hears("b", busy=0.3, waiting_s=0.0, queued=0.0)
    assert serve.decides() == 1


@pytest.mark.parametrize(
    "report", [{}, {"busy": 0.0}, {"busy": 0.0, "waiting_s": 0.0, "queued": 0.0, "age_s": 11}]
)
def test_a_replica_that_says_nothing_of_itself_stays(report: dict[str, float]) -> None:
    """No report, half a report, one of 11 s ago: no replica is let go for it, and Serve's loop goes on."""
    serve = Serve(0, 4)
    serve.runs("a")
    serve.hears("a", **report)
    assert serve.decides() == 1


def test_serve_holds_the_delays() -> None:
    """What is configured reaches Serve: with the defaults no single look scales anything."""
    serve = Serve(0, 4, AutoscalingSettings())
    serve.runs("a")
    serve.hears("a", busy=1.0, waiting_s=0.4, queued=30.0)
    assert serve.decides() == 1
    serve.hears("a", busy=0.0, waiting_s=0.0, queued=0.0)
    assert serve.decides() == 1
    config = serve._state._config
    delays = config.upscale_delay_s, config.downscale_delay_s, config.downscale_to_zero_delay_s
    assert (*delays, config.metrics_interval_s, config.look_back_period_s) == (2, 30, 300, 1, 3)


def test_the_goals_are_the_operators() -> None:
    """A wait of 0.4 s is short where half a second is."""
    serve = Serve(1, 4, AT_ONCE.model_copy(update={"target_wait_s": 0.5, "target_utilization": 1.0}))
    serve.runs("a")
    serve.hears("a", busy=0.9, waiting_s=0.4, queued=30.0)
    assert serve.decides() == 1
    serve.hears("a", busy=0.9, waiting_s=0.6, queued=30.0)
    assert serve.decides() == 2
