"""Calling a deployment's replicas from the ingress: a deadline on every call, one retry when a replica dies.

A prediction is a pure function, so it may run twice; Serve itself retries only what no replica had accepted yet. Every
call has a deadline because a handle call can wait for ever: on an application that is gone, or that has no replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from fyretoolkit.control.serve_driver import SERVE_DEPLOYMENT
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.replica import ReplicaAnswer

_ATTEMPTS = 2
_RETRY_AFTER_S = 1


class HandleCall:
    """Handles to deployments, made at first use and kept."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float
    ) -> ReplicaAnswer:
        """Run arrays that fit the signature on one replica.

        Raises:
            PlatformError: `deadline_exceeded`, `overloaded` or `unavailable`.
        """
        deadline = time.monotonic() + timeout_s
        for attempt in range(_ATTEMPTS):
            try:
                answer = await self._call(application, arrays, deadline - time.monotonic())
            except (ActorDiedError, ActorUnavailableError):
                if attempt + 1 < _ATTEMPTS:
                    continue
                break
            except BackPressureError as error:
                raise PlatformError("overloaded", retry_after_s=_RETRY_AFTER_S) from error
            except DeploymentUnavailableError:
                break
            except RayError as error:
                raise PlatformError("unavailable", retry_after_s=_RETRY_AFTER_S) from error
            return ReplicaAnswer(answer.outputs, answer.kept, answer.failed, answer.compute_ms)
        raise PlatformError(
            "unavailable", "No replica of the deployment answered. Try again.", retry_after_s=_RETRY_AFTER_S
        )

    async def _call(self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float) -> Any:
        if application not in self._handles:
            self._handles[application] = DeploymentHandle(SERVE_DEPLOYMENT, app_name=application)
        response = self._handles[application].predict.remote(dict(arrays))
        try:
            return await asyncio.wait_for(response, timeout_s)
        except TimeoutError as error:
            response.cancel()
            raise PlatformError("deadline_exceeded") from error
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def forget(self, applications: frozenset[str]) -> None:
        """Close the handles of all applications but these."""
        for application in self._handles.keys() - applications:
            handle = self._handles.pop(application)
            await handle.shutdown_async()
