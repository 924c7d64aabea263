"""`/healthz` and `/readyz`: free of keys and limits, for whoever supervises the platform."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from fyretoolkit.api.dependencies import Parts
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.health import Health, Readiness
from fyretoolkit.store.connection import RETRY_AFTER_S, Store

CHECK_TIMEOUT_S = 2.0

router = APIRouter(tags=["Health"])


@router.get("/healthz", summary="Whether this process answers", openapi_extra={"security": []})
async def healthz() -> Health:
    """Always 200 while the process lives."""
    return Health()


@router.get("/readyz", summary="Whether every part answers", openapi_extra={"security": []})
async def readyz(services: Parts) -> Readiness:
    """Names Redis, Serve and the controller; 503 with the same names when one of them does not answer."""
    redis, control = await asyncio.gather(
        _check(lambda: _ping(services.store), ("redis",)),
        _check(services.is_control_ready, ("serve", "controller")),
    )
    checks = {**redis, **control}
    ailing = [name for name, state in checks.items() if state != "ok"]
    if ailing:
        raise PlatformError(
            "unavailable",
            f"Not ready: {', '.join(ailing)}. Try again after Retry-After seconds.",
            details=checks,
            retry_after_s=RETRY_AFTER_S,
        )
    return Readiness(checks=checks)


async def _ping(store: Store) -> dict[str, str]:
    await store.now_ms()
    return {"redis": "ok"}


async def _check(probe: Callable[[], Awaitable[dict[str, str]]], names: tuple[str, ...]) -> dict[str, str]:
    """What the probe says of the parts, or the same sentence for each of them."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await probe()
    except TimeoutError:
        return dict.fromkeys(names, f"no answer within {CHECK_TIMEOUT_S:g} s")
    except PlatformError as error:
        return dict.fromkeys(names, error.message)
