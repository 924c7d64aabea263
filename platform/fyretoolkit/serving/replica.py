"""What the data plane asks of replicas, as a Protocol.

Ray enters in `serve_apps/`; a test runs the model in process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fyretoolkit.core.errors import PlatformError


@dataclass(frozen=True, slots=True)
class Load:
    """What an ingress replica says of its queue with each call; the replica reports it to the autoscaler."""

    source: str
    """The ingress replica's id."""
    waiting_s: float
    """How long a request that joins its queue for this deployment now would wait, as estimated."""
    queued: int
    """Requests in that queue."""


@dataclass(frozen=True, slots=True)
class ReplicaAnswer:
    """What a replica gave: `results[i]` is the result of row `kept[i]` as JSON; every other row is in `failed`.

    `failed` says why. `compute_ms` is the time that the inference took.
    """

    results: Sequence[bytes]
    kept: Sequence[int]
    failed: Mapping[int, str]
    compute_ms: float


class ReplicaLostError(Exception):
    """The replica ended before it answered; another may."""


class ReplicaCall(Protocol):
    """The way to the replicas of all applications."""

    def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float, load: Load
    ) -> Awaitable[ReplicaAnswer]:
        """Run arrays that fit the signature on the replica with the least to do, once.

        A future has left already: it ends with the replica's answer, or with the replica, however late; `timeout_s`
        bounds everything else.

        Raises:
            PlatformError: `deadline_exceeded`, `overloaded`, `unavailable`, or what the model's outputs are wrong in.
            ReplicaLostError: it may be tried again.
        """
        ...

    async def wake(self, application: str, timeout_s: float) -> None:
        """Returns once a replica answered. Where there is none, Serve starts one for this.

        Raises:
            PlatformError: `deadline_exceeded`, `unavailable`.
        """
        ...

    async def forget(self, applications: frozenset[str]) -> None:
        """Let go of what is kept for all applications but these."""
        ...


def unanswered() -> PlatformError:
    """What a caller is told for whom a replica was asked and none answered."""
    return PlatformError("unavailable", "No replica of the deployment answered. Try again.", retry_after_s=1)


def asleep() -> PlatformError:
    """What a caller is told who had no time to wait for the first replica."""
    return PlatformError(
        "unavailable",
        "The deployment had no replica, and the first is still starting. Try again, or raise options.timeout_ms.",
        retry_after_s=1,
    )
