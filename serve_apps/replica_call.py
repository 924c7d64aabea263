"""Calling a deployment's replicas from the ingress.

By the short way (`fyretoolkit.serving.channel`) where the replica is on this machine and not busy with as many calls as
one may have; else by a Serve handle, which finds replicas elsewhere and wakes those that sleep. A handle call can wait
for ever, on an application that is gone or that has no replica, and has a deadline. A call that left by the short way
has none: its replica has it until it answers or ends, whoever waits, and the coalescer must not take it for free
meanwhile. Nothing is tried again here: the coalescer does that, which knows whose requests a call held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from fyretoolkit.control.serve_driver import SERVE_DEPLOYMENT
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.serving.channel import Channels
from fyretoolkit.serving.replica import Load, ReplicaAnswer, ReplicaLostError, unanswered
from serve_apps.model_server import ModelFailure

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 1
_Call = tuple[Mapping[str, np.ndarray], Load]


class ReplicaCalls:
    """Channels and handles to deployments, made at first use and kept."""

    def __init__(self, channels: Channels | None = None, *, calls_per_replica: int = 1) -> None:
        """Without `channels` every call goes through a handle."""
        self._channels = channels
        self._calls_per_replica = calls_per_replica
        self._handles: dict[str, Any] = {}

    def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> Awaitable[ReplicaAnswer]:
        """Run arrays that fit the signature on the replica with the least to do.

        Raises:
            PlatformError: `deadline_exceeded`, `overloaded`, `unavailable`, or the model's own.
            ReplicaLostError: the replica died.
        """
        channel = self._channels.at_hand(application) if self._channels else None
        if channel is not None and channel.busy < self._calls_per_replica:
            return channel.begin((arrays, load))
        return self._find_way(application, (arrays, load), timeout_s)

    async def _find_way(self, application: str, call: _Call, timeout_s: float) -> ReplicaAnswer:
        channel = await self._channels.least_busy(application) if self._channels else None
        if channel is not None and channel.busy < self._calls_per_replica:
            by_channel: ReplicaAnswer = await self._bounded(channel.begin(call), timeout_s)
            return by_channel
        async with _translated(application):
            response = self._handle(application).predict.remote(*call)
            answer = await self._bounded(response, timeout_s)
        if isinstance(answer, ModelFailure):
            raise PlatformError(answer.code, answer.message)
        found: ReplicaAnswer = answer
        return found

    async def wake(self, application: str, timeout_s: float) -> None:
        """Returns once a replica answered; with none, Serve starts one for the waiting call.

        Raises:
            PlatformError: `deadline_exceeded`, `overloaded`, `unavailable`.
            ReplicaLostError: the replica died.
        """
        async with _translated(application):
            await self._bounded(self._handle(application).ping.remote(), timeout_s)

    async def forget(self, applications: frozenset[str]) -> None:
        """Close channels and handles of all applications but these."""
        if self._channels:
            await self._channels.forget(applications)
        for application in self._handles.keys() - applications:
            handle = self._handles.pop(application)
            await handle.shutdown_async()

    def _handle(self, application: str) -> Any:
        if application not in self._handles:
            self._handles[application] = DeploymentHandle(SERVE_DEPLOYMENT, app_name=application)
        return self._handles[application]

    async def _bounded(self, response: Any, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await response
        except TimeoutError as error:
            response.cancel()
            raise PlatformError("deadline_exceeded") from error
        except asyncio.CancelledError:
            response.cancel()
            raise


@asynccontextmanager
async def _translated(application: str) -> AsyncIterator[None]:
    """What Ray, Serve and gRPC raise, in our words."""
    try:
        yield
    except PlatformError:
        raise
    except (ActorDiedError, ActorUnavailableError) as error:
        raise ReplicaLostError from error
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
            raise ReplicaLostError from error
        logger.exception("a call of %s failed", application)
        raise unanswered() from error
    except BackPressureError as error:
        raise PlatformError("overloaded", retry_after_s=_RETRY_AFTER_S) from error
    except DeploymentUnavailableError as error:
        raise unanswered() from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ReplicaLostError from error  # said by the replica, not by our caller
    except Exception as error:
        logger.exception("a call of %s failed", application)
        raise unanswered() from error
