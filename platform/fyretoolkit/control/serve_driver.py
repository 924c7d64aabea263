"""The one place that drives Ray Serve: start, observe, call and remove applications.

Serve's own API blocks, so every method here is meant for a thread. Serve's vocabulary ends at this border: what
comes out are the records of `core.deployments`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from fyretoolkit.control import serve_details
from fyretoolkit.control.nodes import Nodes
from fyretoolkit.control.serve_details import ApplicationDetails, DeploymentDetails
from fyretoolkit.core.capacity import Ask, Node, Shortage, find_shortage
from fyretoolkit.core.deployments import PREFIX, Application, ApplicationState, Deployment
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.standby import PREFIX as STANDBY_PREFIX
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import AutoscalingSettings, Settings

SERVE_DEPLOYMENT = "ModelServer"
QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")
_UP = ("RUNNING", "UPDATING", "PENDING_MIGRATION")
"""The states of a replica that has loaded its model. One that is told new bounds is UPDATING for a moment."""
_FAREWELL_MARGIN_S = 5.0
_VERSION = "1"
"""Of every application: what one serves never changes, once it was given a model."""
_ACCELERATOR, _ACCELERATOR_SHARE = "accelerator_type:", 0.001
"""How Ray counts kinds of accelerators."""
_MAX_ONGOING_REQUESTS = 64

_STATES = {
    "NOT_STARTED": ApplicationState.STARTING,
    "DEPLOYING": ApplicationState.STARTING,
    "RUNNING": ApplicationState.RUNNING,
    "DEPLOY_FAILED": ApplicationState.FAILED,
    "UNHEALTHY": ApplicationState.UNHEALTHY,
    "DELETING": ApplicationState.DELETING,
}


def is_running() -> bool:
    """Whether Serve was started. Deploying before would start it with options that are not ours."""
    return _get_global_client(raise_if_no_controller_running=False) is not None


def observe() -> list[Application]:
    """Every application that belongs to a deployment or stands by for one, those being deleted included."""
    nodes = Nodes()
    found = serve_details.applications()
    return [_application(name, details, nodes) for name, details in found.items() if _is_ours(name)]


def known_nodes() -> Sequence[Node]:
    """Every node that is alive, and what applications have of it."""
    return Nodes().known()


def _is_ours(name: str) -> bool:
    return is_id(name, PREFIX) or is_id(name, STANDBY_PREFIX)


def _application(name: str, details: ApplicationDetails, nodes: Nodes) -> Application:
    deployment = details["deployments"].get(SERVE_DEPLOYMENT)
    state = _STATES[details["status"].value]
    if deployment is None:
        return Application(name, state, message=_last_line(details["message"]), is_placed=False)
    replicas = deployment["replicas"]
    return Application(
        name,
        state,
        running_replicas=sum(replica["state"].value in _UP for replica in replicas),
        message=_last_line(deployment["message"] or details["message"]),
        replica_range=_replica_range(deployment),
        target_replicas=deployment["target_num_replicas"],
        shortage=_shortage(deployment, nodes),
        ask=_ask_of(deployment),
        is_scalable=details["external_scaler_enabled"],
        is_placed=any(replica.get("node_id") for replica in replicas),
    )


def _shortage(deployment: DeploymentDetails, nodes: Nodes) -> Shortage | None:
    """Why a replica of it waits for a node, if one does."""
    waiting = [
        replica
        for replica in deployment["replicas"]
        if not replica.get("node_id") and replica["state"].value == "STARTING"
    ]
    if not waiting or all(nodes.has_process(replica.get("actor_name") or "") for replica in waiting):
        return None
    ask = _ask_of(deployment)
    shortage = find_shortage(ask, nodes.known())
    return None if shortage is None or nodes.is_starting(ask) else shortage


def _ask_of(deployment: DeploymentDetails) -> Ask:
    """What each of its replicas needs."""
    options = deployment["deployment_config"].get("ray_actor_options", {})
    return ask_for(
        num_cpus=options.get("num_cpus") or 0.0,
        num_gpus=options.get("num_gpus") or 0.0,
        accelerator_type=options.get("accelerator_type"),
        labels=options.get("label_selector") or {},
    )


def _replica_range(deployment: DeploymentDetails) -> tuple[int, int] | None:
    config = deployment["deployment_config"]
    if scaling := config.get("autoscaling_config"):
        return scaling["min_replicas"], scaling["max_replicas"]
    fixed = config.get("num_replicas")
    return None if fixed is None else (fixed, fixed)


def _last_line(message: str) -> str:
    """Serve's message without the traceback it may carry."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", message) if line.strip()]
    return lines[-1][:500] if lines else ""


def apply(deployment: Deployment, spec: ModelSpec, settings: Settings) -> None:
    """Start the application of a deployment, or change in place how many replicas the running one has.

    Returns as soon as Serve has taken it over.
    """
    options: dict[str, Any] = {"num_replicas": deployment.replicas}
    if deployment.autoscaling or _has_bounds(deployment.application):
        options = {"autoscaling_config": _autoscaling(deployment, settings.autoscaling)}
    _run(deployment.application, ask_of(deployment, spec, settings), options, settings)


def start_standby(name: str, ask: Ask, settings: Settings) -> None:
    """Start an application of one replica that waits for a model. Returns as soon as Serve has taken it over."""
    _run(name, ask, {"num_replicas": 1}, settings)


def _run(name: str, ask: Ask, scale: Mapping[str, Any], settings: Settings) -> None:
    from serve_apps.model_server import ModelServer

    options: dict[str, Any] = {
        "name": SERVE_DEPLOYMENT,
        # A pinned version: Serve stamps a random one otherwise and restarts every replica at each change.
        "version": _VERSION,
        "ray_actor_options": _actor_options(ask),
        "max_ongoing_requests": _MAX_ONGOING_REQUESTS,
        "health_check_period_s": 1,
        "health_check_timeout_s": 10,
        "graceful_shutdown_wait_loop_s": 0.2,
        # A replica that is told to end answers first what it was asked before, which takes as long as a prediction may.
        "graceful_shutdown_timeout_s": settings.limits.max_timeout_ms / 1000 + _FAREWELL_MARGIN_S,
        "max_constructor_retry_count": 1,
        "logging_config": QUIET,
        **scale,
    }
    application = serve.deployment(ModelServer).options(_internal=True, **options).bind()
    target = serve.RunTarget(
        application,
        name=name,
        route_prefix=None,
        logging_config=QUIET,
        # Where the number is fixed, operators may scale it in Serve; where load decides, the next look would undo that.
        external_scaler_enabled="num_replicas" in scale,
    )
    serve.run_many(
        [target],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _has_bounds(application: str) -> bool:
    """Whether it scales by load now: then a fixed number is given to it as bounds that are equal.

    A replica whose bounds are taken away goes on collecting reports, which it can neither send nor drop: an error in
    its log every second, and memory that grows.
    Source: ray 2.60, `serve/_private/replica.py`, `set_autoscaling_config`.
    """
    details = serve_details.applications().get(application)
    deployment = details["deployments"].get(SERVE_DEPLOYMENT) if details else None
    return deployment is not None and "autoscaling_config" in deployment["deployment_config"]


def _autoscaling(deployment: Deployment, settings: AutoscalingSettings) -> AutoscalingConfig:
    fewest, most = deployment.replica_range
    return AutoscalingConfig(
        min_replicas=fewest,
        max_replicas=most,
        initial_replicas=deployment.starting_replicas,  # Serve goes there whenever the bounds change
        policy=AutoscalingPolicy(
            policy_function="serve_apps.autoscaling:QueuePolicy",
            policy_kwargs={
                "target_wait_s": settings.target_wait_s,
                "target_utilization": settings.target_utilization,
            },
        ),
        # Deprecated in favour of two variables of the environment, which Ray 2.60 does not read.
        metrics_interval_s=settings.report_interval_s,
        look_back_period_s=settings.window_s,
        upscale_delay_s=settings.upscale_delay_s,
        downscale_delay_s=settings.downscale_delay_s,
        downscale_to_zero_delay_s=settings.downscale_to_zero_delay_s,
    )


def cpus_of(spec: ModelSpec, settings: Settings) -> float:
    """What a replica reserves."""
    wanted = spec.resources.num_cpus
    return settings.deployments.num_cpus if wanted is None else wanted


def ask_of(deployment: Deployment, spec: ModelSpec, settings: Settings) -> Ask:
    """What each replica of a deployment needs."""
    num_gpus = deployment.num_gpus or 0.0
    return ask_for(
        num_cpus=cpus_of(spec, settings),
        num_gpus=num_gpus,
        accelerator_type=deployment.accelerator_type if num_gpus else None,
        labels=settings.regions[deployment.region],
    )


def standby_shapes(settings: Settings) -> list[Ask]:
    """What the replicas that stand by need: each shape once in each group of regions that share their nodes."""
    shapes: list[Ask] = []
    for labels in settings.regions.values():
        for shape in settings.standby.shapes:
            num_cpus = settings.deployments.num_cpus if shape.num_cpus is None else shape.num_cpus
            kind = shape.accelerator_type if shape.num_gpus else None
            ask = ask_for(num_cpus=num_cpus, num_gpus=shape.num_gpus, accelerator_type=kind, labels=labels)
            if ask not in shapes:
                shapes.append(ask)
    return shapes


def ask_for(
    *, num_cpus: float, num_gpus: float, accelerator_type: str | None, labels: Mapping[str, str]
) -> Ask:
    """Resources by Ray's names of them."""
    resources = {"CPU": num_cpus, "GPU": num_gpus}
    if accelerator_type:
        resources[_ACCELERATOR + accelerator_type] = _ACCELERATOR_SHARE
    return Ask({name: amount for name, amount in resources.items() if amount}, dict(labels))


def _actor_options(ask: Ask) -> dict[str, Any]:
    """The same in the words of Serve's options."""
    resources = ask.resources
    options: dict[str, Any] = {"num_cpus": resources.get("CPU", 0.0), "num_gpus": resources.get("GPU", 0.0)}
    for name in resources:
        if name.startswith(_ACCELERATOR):
            options["accelerator_type"] = name.removeprefix(_ACCELERATOR)
    if ask.labels:
        options["label_selector"] = dict(ask.labels)
    return options


def warm_up(application: str, timeout_s: float) -> dict[str, object]:
    """Run one real inference through the handle, the way that predictions come; the JSON of its `Batching`.

    Raises:
        PlatformError: `warmup_failed`, from the replica.
        TimeoutError: no replica answered in time.
    """
    handle: Any = DeploymentHandle(SERVE_DEPLOYMENT, app_name=application)
    # A handle used outside an event loop needs Serve's router on a loop of its own.
    handle._init(_run_router_in_separate_loop=True)
    response = handle.warm_up.remote()
    try:
        batching: dict[str, object] = response.result(timeout_s=timeout_s)
    except TimeoutError:
        response.cancel()
        raise
    finally:
        handle.shutdown()
    return batching


def remove(application: str) -> None:
    """Begin to free an application; in-flight requests finish first."""
    serve.delete(application, _blocking=False)
