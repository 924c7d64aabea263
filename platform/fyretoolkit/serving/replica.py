"""What the data plane asks of a replica, as a Protocol: Ray enters in `serve_apps/`, a test runs the model in process.

A coalescer that joins the rows of several requests into one call will stand here too, around the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class ReplicaAnswer:
    """What a replica gave: row i of `outputs` is row `kept[i]` of the call; every other row is in `failed`, with why.

    `outputs` is empty if no row was kept. `compute_ms` is the time that the inference took.
    """

    outputs: dict[str, np.ndarray]
    kept: Sequence[int]
    failed: Mapping[int, str]
    compute_ms: float


class ReplicaCall(Protocol):
    """The way to the replicas of all applications."""

    async def __call__(
        self, application: str, arrays: Mapping[str, np.ndarray], timeout_s: float
    ) -> ReplicaAnswer:
        """Run arrays that fit the signature on one replica.

        Raises:
            PlatformError: `deadline_exceeded`, `overloaded`, `unavailable`.
        """
        ...

    async def forget(self, applications: frozenset[str]) -> None:
        """Let go of what is kept for all applications but these."""
        ...
