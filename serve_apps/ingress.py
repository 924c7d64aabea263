"""The HTTP front as Ray Serve runs it: the FastAPI application, built in each replica from its own settings."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import ray
from ray import serve

from fyretoolkit.api.app import create_app
from fyretoolkit.api.edge import access_logger
from fyretoolkit.api.services import open_services
from fyretoolkit.control.gauges import RayGauges
from fyretoolkit.serving.channel import Channels
from fyretoolkit.settings import Settings, settings
from serve_apps.controller import NAME, NAMESPACE
from serve_apps.http_edge import answer_predictions
from serve_apps.process_log import log_to_the_process
from serve_apps.replica_call import ReplicaCalls

_MAX_ONGOING_REQUESTS = 1000
_COLLECT_AFTER = 10_000
"""Objects made and not freed since the last look for cycles."""


class Ingress:
    """Owns the application; Serve calls it for every request."""

    def __serve_build_asgi_app__(self) -> Any:
        config = settings()
        log_to_the_process(access_logger, logging.DEBUG if config.ingress.log_predictions else logging.INFO)
        calls = ReplicaCalls(
            Channels(config.channels_dir) if config.channels_dir else None,
            calls_per_replica=config.serving.calls_per_replica,
        )
        app = create_app(open_services(config, calls, _control_state, gauges=RayGauges()))
        answer_predictions(app.state.predict)
        _spare_the_collector()
        return app


def _spare_the_collector() -> None:
    """Look for cycles seldom, and never among what is here for good.

    Predictions leave none (what they hold is freed as they are answered), yet with Python's own threshold a sixth of
    this process's time under load went into looking for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


async def _control_state() -> dict[str, str]:
    """The parts that only Ray knows of, for /readyz: name to `ok` or what is wrong."""
    try:
        # A blocking call to the GCS: on a thread, so that predictions go on while it is away.
        controller = await asyncio.to_thread(ray.get_actor, NAME, namespace=NAMESPACE)
        state = (await controller.status.remote())["state"]
    except Exception as error:  # noqa: BLE001 - readiness reports whatever is wrong
        return {"serve": "ok", "controller": type(error).__name__}
    return {"serve": "ok", "controller": state}


def build(config: Settings) -> Any:
    """The Serve application of the ingress."""
    deployment = serve.deployment(serve.ingress()(Ingress)).options(
        name="Ingress",
        num_replicas=config.ingress.replicas,
        ray_actor_options={"num_cpus": config.ingress.num_cpus},
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        health_check_period_s=1,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=20,
    )
    return deployment.bind()
