"""What the data plane must reach beside other systems, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from math import isnan

from scripts.benchmarks.comparison.measurements import ORT_ALONE, Figures

OURS = "fyre"


class Verdict(Enum):
    """Of one floor."""

    MET = "met"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"
    """A figure that it compares is not there: the options left it out, or the system could not be installed."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our throughput over a baseline's, in rows a second, at the same number of connections."""

    workload: str
    connections: int
    baseline: str
    at_least: float

    def judge(self, figures: Table) -> tuple[Verdict, str]:
        """The verdict and the floor with what was measured."""
        ours = figures.find(self.workload, OURS, self.connections)
        # ONNX Runtime alone has no connections.
        theirs = figures.find(
            self.workload, self.baseline, 1 if self.baseline == ORT_ALONE else self.connections
        )
        floor = f"{self.workload}, {plural(self.connections)}: ≥ {self.at_least:g} × {self.baseline}"
        if ours is None or theirs is None or not theirs.rows_per_s:
            return Verdict.NOT_MEASURED, floor
        ratio = ours.rows_per_s / theirs.rows_per_s
        return _verdict(ratio >= self.at_least, ours), f"{floor}: {ratio:.2f}{_failures(ours)}"


@dataclass(frozen=True, slots=True)
class Latency:
    """A percentile (50 or 99) of ours."""

    workload: str
    connections: int
    percentile: int
    at_most_s: float

    def judge(self, figures: Table) -> tuple[Verdict, str]:
        """The verdict and the floor with what was measured."""
        ours = figures.find(self.workload, OURS, self.connections)
        floor = (
            f"{self.workload}, {plural(self.connections)}: p{self.percentile} ≤ {self.at_most_s * 1000:g} ms"
        )
        if ours is None:
            return Verdict.NOT_MEASURED, floor
        latency_s = {50: ours.p50_s, 99: ours.p99_s}[self.percentile]
        is_met = not isnan(latency_s) and latency_s <= self.at_most_s
        return _verdict(is_met, ours), f"{floor}: {latency_s * 1000:.1f} ms{_failures(ours)}"


Floor = Ratio | Latency

FLOORS: tuple[Floor, ...] = (
    Ratio("digits", 64, "ray-serve", 25),
    Ratio("digits", 64, "fastapi", 1.5),
    Ratio("digits", 64, "mosec", 0.5),
    Latency("digits", 64, 99, 0.030),
    Ratio("digits", 16, "fastapi", 0.8),
    Latency("digits", 1, 50, 0.003),
    Ratio("sentiment-v1", 64, ORT_ALONE, 0.85),
    Ratio("transformer", 64, ORT_ALONE, 0.95),
)


class Table:
    """Figures by workload, system and load."""

    def __init__(self, figures: Iterable[Figures]) -> None:
        self._figures = {(each.workload, each.system, each.connections): each for each in figures}

    def __iter__(self) -> Iterator[Figures]:
        return iter(self._figures.values())

    def find(self, workload: str, system: str, connections: int) -> Figures | None:
        """None where it was not measured."""
        return self._figures.get((workload, system, connections))


def judge(table: Table, floors: Iterable[Floor] = FLOORS) -> list[tuple[Verdict, str]]:
    """Each floor's verdict with a line that says what was measured."""
    return [floor.judge(table) for floor in floors]


def plural(connections: int) -> str:
    """So many connections, in words."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


def _verdict(is_met: bool, ours: Figures) -> Verdict:
    """Failed requests are no throughput: with any, nothing is met."""
    return Verdict.MET if is_met and not ours.failed else Verdict.MISSED


def _failures(ours: Figures) -> str:
    return f" ({ours.failed} requests failed)" if ours.failed else ""
