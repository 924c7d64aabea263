"""CUDA where there is none, for tests: a session that says what a CUDA session would and runs on the CPU.

`FYRE_TEST_PROVIDERS=CUDAExecutionProvider` puts it in ONNX Runtime's place, so that placement, shares, scaling and
failures on GPUs are tested on machines without one, with Ray's logical GPUs. A platform in production mode does not
start with the variable (`launch.preflight`), and a process of one that meets it all the same ignores it.
`session.open_session` alone knows of this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime

from fyretoolkit.models.cuda import PROVIDER

SWITCH = "FYRE_TEST_PROVIDERS"
TOTAL_BYTES = 16 << 30
"""Of each of its devices."""


def is_on(environ: Mapping[str, str]) -> bool:
    """Whether a test asked for CUDA's double."""
    return environ.get(SWITCH) == PROVIDER and environ.get("FYRE_MODE") != "production"


class CudaDouble:
    """What `session.Cuda` is, without CUDA."""

    memory = "cpu"

    def is_built_in(self) -> bool:
        """Always."""
        return True

    def total_bytes(self, device_id: int) -> int:  # noqa: ARG002 - all are alike
        """16 GiB."""
        return TOTAL_BYTES

    def open(self, path: Path, options: Any, providers: Sequence[Any]) -> DoubledSession:
        """A session that remembers the providers and their options."""
        return DoubledSession(path, options, providers)


class DoubledSession(onnxruntime.InferenceSession):  # type: ignore[misc]  # ONNX Runtime has no types
    """On the CPU, whatever it says."""

    def __init__(self, path: Path, options: Any, providers: Sequence[Any]) -> None:
        super().__init__(str(path), options, providers=["CPUExecutionProvider"])
        self._asked: dict[str, dict[str, str]] = dict(
            each if isinstance(each, tuple) else (each, {}) for each in providers
        )

    def get_providers(self) -> list[str]:
        """Those that were asked for."""
        return list(self._asked)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """As they were asked for."""
        return self._asked

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        """Every node of the graph on the first of them."""
        first = next(iter(self._asked))
        return [
            SimpleNamespace(ep_name=first, get_nodes=each.get_nodes)
            for each in super().get_provider_graph_assignment_info()
        ]
