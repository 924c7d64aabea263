"""Our numbers in Ray's Prometheus exporter, beside its own. Each is exported by its name with `ray_` before it.

Ray's exporter labels each with the process, so that those of several are told apart and can be summed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Gauge

from fyretoolkit.core.exposition import SERIES


class RayGauges:
    """The gauges of this process, each made when it is first set: none is shown that a process does not have."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Show a number of `core.exposition.SERIES` until it is set anew; Ray forgets it after 20 s."""
        gauge = self._gauges.get(name)
        if gauge is None:
            series = SERIES[name]
            gauge = self._gauges[name] = Gauge(name, series.description, series.labels)
        gauge.set(value, dict(labels))
