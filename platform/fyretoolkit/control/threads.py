"""The controller's threads, apart by what they wait for: a stranger's model must never stand in Serve's way.

A thread cannot be cancelled, and those that asyncio keeps for everybody are few: twenty models under inspection would
leave none for the calls of Ray Serve, and the controller would be taken for hanging.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

INSPECTIONS_AT_ONCE = 2

SERVE = ThreadPoolExecutor(4, "serve")
"""Calls of Ray Serve and Ray, each soon over."""
WARM_UPS = ThreadPoolExecutor(4, "warm-up")
"""First inferences, each as long as a stranger's model takes."""
MODELS = ThreadPoolExecutor(INSPECTIONS_AT_ONCE, "models")
"""Unpacking, inspecting and storing what strangers sent."""


async def run_in(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in one of these threads. Who is cancelled waits no longer: what has not begun never will."""
    return await asyncio.get_running_loop().run_in_executor(threads, partial(call, *args, **kwargs))


async def finish_in(
    threads: ThreadPoolExecutor, interrupt: Callable[[], None] | None, call: Callable[[], T]
) -> T:
    """`call` in one of these threads. Who is cancelled interrupts what has begun, then waits until it ended."""
    began = threads.submit(call)
    work = asyncio.wrap_future(began)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not began.cancel():
            if interrupt:
                interrupt()
            await asyncio.wait([work])
            work.exception()  # looked at, so that asyncio does not report it as lost
        raise
