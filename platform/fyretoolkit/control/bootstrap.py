"""From a running Ray head to an API that answers: Serve, the controller actor, the demo models, the ingress.

Run by `scripts/up` as `python -m fyretoolkit.control.bootstrap`, with the environment of the platform. It prints one
JSON line for each step, `{stage, state, message}`, and exits when predictions are answered. Running it again over a
platform that runs changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import ray
from ray import serve
from ray.serve.config import HTTPOptions

from fyretoolkit.control.demo import add_demo_key, add_demo_models, withdraw_demo_models
from fyretoolkit.control.serve_driver import QUIET
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.settings import Settings, settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore

INGRESS_APPLICATION = "ingress"
PROXY_LOCATION = "EveryNode"
"""Where HAProxy runs: on the head, and on each node that has an ingress. Tests on several nodes of one machine say
otherwise."""
_HOST = "127.0.0.1"
_READY_TIMEOUT_S = 180.0
"""Eight seconds with two models on two cores, 23 with thirteen, whose replicas start at the same time."""
_MODELS_TIMEOUT_S = 180.0
_POLL_S = 0.1


def main() -> int:
    """Bring the platform up; 0 when it answers."""
    config = settings()
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), namespace="fyre", log_to_driver=False)
    try:
        asyncio.run(_bring_up(config))
    except Exception as error:  # noqa: BLE001 - the exit status and stderr are this program's only words
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()
    return 0


async def _bring_up(config: Settings) -> None:
    store = Store(config.redis_url.get_secret_value())
    try:
        seeding = asyncio.create_task(_seed(config, store))
        starting = asyncio.create_task(asyncio.to_thread(_start_controller))
        with _step("serve", "Ray Serve behind HAProxy"):
            await asyncio.to_thread(_start_serve, config)
        with _step("controller", "the controller actor"):
            await starting
        with _step("ingress", "the HTTP API"):
            await asyncio.to_thread(_start_ingress, config)
            await _until_ready(config)
        with _step("models", "the demo models" if config.is_development else "none, in production mode"):
            await _until_deployed(config, store, await seeding)
    finally:
        await store.close()


async def _seed(config: Settings, store: Store) -> list[str]:
    if not config.is_development:
        await withdraw_demo_models(config, store)
        return []
    await add_demo_key(store)
    if os.environ.get("FYRE_DEMO", "1") != "1":
        return []
    return await add_demo_models(config, store)


def _start_serve(config: Settings) -> None:
    serve.start(
        proxy_location=PROXY_LOCATION,
        http_options=HTTPOptions(host=_HOST, port=config.port),
        logging_config=QUIET,
    )


def _start_controller() -> None:
    from serve_apps.controller import ensure_controller
    from serve_apps.webhook_sender import ensure_webhook_sender

    ensure_webhook_sender()
    ray.get(ensure_controller().status.remote(), timeout=_READY_TIMEOUT_S)


def _start_ingress(config: Settings) -> None:
    from serve_apps.ingress import build

    serve.run_many(
        [serve.RunTarget(build(config), name=INGRESS_APPLICATION, route_prefix="/", logging_config=QUIET)],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


async def _until_ready(config: Settings) -> None:
    url = f"http://{_HOST}:{config.port}/readyz"
    deadline = time.monotonic() + _READY_TIMEOUT_S
    answer = "it does not listen"
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                response = await client.get(url)
                if response.status_code == 200:
                    return
                answer = response.text[:500]
            except httpx.HTTPError as error:
                answer = f"{type(error).__name__}: {error}"
            await asyncio.sleep(_POLL_S)
    raise TimeoutError(f"{url} is not ready after {_READY_TIMEOUT_S:g} s: {answer}")


async def _until_deployed(config: Settings, store: Store, names: list[str]) -> None:
    deployments = DeploymentStore(store, config.deployments.deleted_ttl_s)
    deadline = time.monotonic() + _MODELS_TIMEOUT_S
    waiting = list(names)
    while waiting and time.monotonic() < deadline:
        found = {each.id: each for each in await deployments.live() if each.org == PUBLIC_ORG}
        for name in list(waiting):
            status = found[name].status if name in found else DeploymentStatus.DELETED
            if status is DeploymentStatus.READY:
                waiting.remove(name)
            elif status in (DeploymentStatus.FAILED, DeploymentStatus.DELETED):
                error = found[name].error if name in found else None
                raise RuntimeError(f"the demo deployment {name} ended {status}: {error}")
        await asyncio.sleep(_POLL_S)
    if waiting:
        raise TimeoutError(f"{', '.join(waiting)} not ready after {_MODELS_TIMEOUT_S:g} s")


@contextmanager
def _step(stage: str, message: str) -> Iterator[None]:
    _report(stage, "start", message)
    try:
        yield
    except Exception as error:
        _report(stage, "failed", f"{type(error).__name__}: {error}")
        raise
    _report(stage, "done", message)


def _report(stage: str, state: str, message: str) -> None:
    print(json.dumps({"stage": stage, "state": state, "message": message}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
