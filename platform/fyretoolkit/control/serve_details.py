"""What Serve's controller says of its applications, as it says it: plain dictionaries, with Serve's enums in them.

Serve's own models of the same (`ServeInstanceDetails`) are not built of it: each router's class is pickled when they
are, 5 ms for each application at every look, and the controller looks every second.
Source: ray 2.60, `serve/_private/controller.py`, `get_serve_instance_details`; `serve/schema.py`. It answers with the
dump of those models without what nobody set: a key that may be left out is told by `NotRequired`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus


class ScalingBounds(TypedDict):
    """Of what is read here of the way an application scales by load."""

    min_replicas: int
    max_replicas: int


class ActorOptions(TypedDict, total=False):
    """What each replica asks of a node."""

    num_cpus: float | None
    num_gpus: float | None
    accelerator_type: str | None
    label_selector: Mapping[str, str] | None


class DeploymentConfig(TypedDict):
    """What a Serve deployment is configured for: a fixed number of replicas, or bounds of it."""

    num_replicas: NotRequired[int | None]
    autoscaling_config: NotRequired[ScalingBounds]
    ray_actor_options: NotRequired[ActorOptions]


class ReplicaDetails(TypedDict):
    """One replica; its node is not told of before its process is up."""

    state: ReplicaState
    actor_name: NotRequired[str | None]
    node_id: NotRequired[str | None]


class DeploymentDetails(TypedDict):
    """One Serve deployment of an application."""

    message: str
    deployment_config: DeploymentConfig
    target_num_replicas: int
    replicas: Sequence[ReplicaDetails]


class ApplicationDetails(TypedDict):
    """One application."""

    status: ApplicationStatus
    message: str
    deployments: Mapping[str, DeploymentDetails]
    external_scaler_enabled: bool


def applications() -> Mapping[str, ApplicationDetails]:
    """Every application of this Ray by its name, those being deleted included."""
    client: Any = _get_global_client()
    # serve.status() reads the same, and leaves out what each application is configured for.
    found: Mapping[str, ApplicationDetails] = client.get_serve_details()["applications"]
    return found
