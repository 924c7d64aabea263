"""What wakes a deployment that has no replica: the controller, which may have one that stands by.

That takes a fraction of a second, a replica of its own takes seconds. So the controller is told first; if the
deployment has not been given one shortly after, who waits calls Serve, which starts one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fyretoolkit.core.errors import PlatformError

logger = logging.getLogger(__name__)


class Alarm:
    """Tells the controller who is called in its sleep."""

    def __init__(self, ask: Callable[[str, str], Awaitable[None]], grace_s: float) -> None:
        """`ask` leaves word of an organization's deployment; `grace_s` is how long to wait for what comes of it."""
        self._ask = ask
        self._grace_s = grace_s

    async def ring(self, org: str, deployment: str) -> None:
        """Returns if nothing came of it in time. If something does, whoever waits for this cancels it."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._grace_s
        asking = loop.create_task(self._ask_safely(org, deployment))
        try:
            # Not bounded by a cancellation: a client of Redis that is connecting swallows it.
            await asyncio.wait({asking}, timeout=self._grace_s)
            if asking.done() and asking.result():
                await asyncio.sleep(due - loop.time())
        finally:
            asking.cancel()

    async def _ask_safely(self, org: str, deployment: str) -> bool:
        """Whether word was left."""
        try:
            await self._ask(org, deployment)
        except PlatformError as error:
            logger.warning("The controller could not be asked to wake %s: %s", deployment, error)
            return False
        return True
