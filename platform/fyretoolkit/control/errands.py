"""The work that reconcilers have under way: at most one task for each name, never waited for by a tick.

A task that fails is logged and forgotten, after a pause: the plan names it again when it is still due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store.fencing import FencedError

logger = logging.getLogger(__name__)

_RETRY_S = 1.0


class Errands:
    """Tasks by name. Belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fenced: FencedError | None = None

    def __bool__(self) -> bool:
        """Whether something is under way."""
        return bool(self._tasks)

    def check_fence(self) -> None:
        """Raises what a task learned since the last look.

        Raises:
            FencedError: a newer controller has taken over.
        """
        if self._fenced:
            raise self._fenced

    def begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run the work beside the ticks, unless something of this name is under way."""
        if name in self._tasks:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._guarded(name, work))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))

    def cancel_others(self, names: Collection[str]) -> None:
        """End what nobody waits for any more."""
        for name, task in self._tasks.items():
            if name not in names and not task.cancelling():
                task.cancel()

    async def _guarded(self, name: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except FencedError as error:
            self._fenced = error
        except PlatformError as error:
            logger.warning("%s: %s", name, error)
            await asyncio.sleep(_RETRY_S)
        except Exception:
            logger.exception("%s: a command failed; it is planned again", name)
            await asyncio.sleep(_RETRY_S)
