"""Calling a deployment's replicas from the ingress: a deadline on every call, one retry when a replica dies.

A prediction is a pure function, so it may run twice; Serve itself retries only what no replica had accepted yet. Every
call has a deadline because a handle call can wait for ever: on an application that is gone, or that has no replica.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from fyretoolkit.control.serve_driver import SERVE_DEPLOYMENT
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.replica import ReplicaAnswer

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
_RETRY_AFTER_S = 1


class ReplicaLostError(Exception):
    """The replica ended before it answered; another may."""


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
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._translated(application, arrays, deadline - time.monotonic())
            except ReplicaLostError:
                continue
            return ReplicaAnswer(answer.outputs, answer.kept, answer.failed, answer.compute_ms)
        raise _unavailable()

    async def _translated(self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float) -> Any:
        """One call, with what Ray, Serve and gRPC raise said in our words."""
        try:
            return await self._call(application, arrays, timeout_s)
        except PlatformError:
            raise
        except (ActorDiedError, ActorUnavailableError) as error:
            raise ReplicaLostError from error
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
                raise ReplicaLostError from error
            logger.exception("a call of %s failed", application)
            raise _unavailable() from error
        except BackPressureError as error:
            raise PlatformError("overloaded", retry_after_s=_RETRY_AFTER_S) from error
        except DeploymentUnavailableError as error:
            raise _unavailable() from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ReplicaLostError from error  # said by the replica, not by our caller
        except Exception as error:
            logger.exception("a call of %s failed", application)
            raise _unavailable() from error

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


def _unavailable() -> PlatformError:
    return PlatformError(
        "unavailable", "No replica of the deployment answered. Try again.", retry_after_s=_RETRY_AFTER_S
    )
