"""The second sender of webhooks, beside the controller's: detached, named, restarted by Ray.

One is enough for the work. Two because a process that was killed takes seconds to come back, and a receiver is told
within two that a job has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os

import ray

from fyretoolkit.control.gauges import RayGauges
from fyretoolkit.control.webhooks import WebhookSender
from fyretoolkit.settings import settings
from fyretoolkit.store.connection import Store
from serve_apps.endings import end_at_sigterm

NAME = "fyre-webhooks"
NAMESPACE = "fyre"


class WebhookActor:
    """Sends webhooks for as long as its process lives."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits an async constructor
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        end_at_sigterm()
        store = Store(settings().redis_url.get_secret_value())
        self._sender = asyncio.get_running_loop().create_task(
            WebhookSender(settings(), store, RayGauges()).run()
        )
        self._sender.add_done_callback(_leave)

    async def status(self) -> dict[str, object]:
        """`{pid}`."""
        return {"pid": os.getpid()}


def _leave(sender: asyncio.Task[object]) -> None:
    """A sender that ended is a defect: leave, and let Ray start the actor anew."""
    error = sender.exception() if not sender.cancelled() else None
    logging.getLogger(__name__).critical("the sender of webhooks ended", exc_info=error)
    os._exit(1)


def ensure_webhook_sender() -> ray.actor.ActorHandle:
    """The one of this cluster, started if there is none."""
    return (
        ray.remote(WebhookActor)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
        )
        .remote()
    )
