"""What was measured of batch jobs, and what it must be: records, a table, verdicts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.benchmarks.behaviour.stage import Finding

OURS, PLAIN, RAY_DATA = "a job", "two plain processes", "Ray Data"
STEADY, WHOLE, FIRST, CUTTING, MEMORY = "steady", "end to end", "first commit", "cutting", "memory"

LEAST_BESIDE_PLAIN = 0.9
LEAST_BESIDE_RAY_DATA = 8.0
MOST_FIRST_COMMIT_S = 3.0
LEAST_CUTTING_MB_PER_S = 500.0
MOST_GROWTH = 1.10


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one round."""

    round: int
    kind: str
    """STEADY (rows a second), WHOLE and FIRST (seconds), CUTTING (MB a second), MEMORY (MiB)."""
    what: str
    """The input, by a few words."""
    way: str
    value: float


_UNITS = {STEADY: "rows/s", WHOLE: "s", FIRST: "s", CUTTING: "MB/s", MEMORY: "MiB"}


@dataclass(frozen=True)
class Figures:
    """All measurements of a run."""

    measured: Sequence[Measurement]

    def of(self, kind: str, what: str, way: str = OURS) -> list[float]:
        """In the order of the rounds."""
        return [each.value for each in self.measured if (each.kind, each.what, each.way) == (kind, what, way)]

    def inputs(self, kind: str) -> list[str]:
        """What a kind of figure was measured of."""
        return list(dict.fromkeys(each.what for each in self.measured if each.kind == kind))

    def ratios(self, kind: str, what: str, other: str) -> list[float]:
        """Ours over the other's, round by round; where one of them was measured once, over that one."""
        ours, others = self.of(kind, what), self.of(kind, what, other)
        if len(others) == 1:
            others *= len(ours)
        return [one / another for one, another in zip(ours, others, strict=False)]


def table(figures: Figures) -> str:
    """In Markdown: a line for each figure of each way."""
    lines = ["| | input | way | n | median | least | most |", "|---|---|---|---|---|---|---|"]
    for kind, what, way in dict.fromkeys((each.kind, each.what, each.way) for each in figures.measured):
        found = figures.of(kind, what, way)
        spread = (statistics.median(found), min(found), max(found))
        cells = (kind, what, way, str(len(found)), *(_shown(kind, each) for each in spread))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(kind: str, value: float) -> str:
    return f"{value:,.2f} {_UNITS[kind]}" if value < 100 else f"{value:,.0f} {_UNITS[kind]}"


def judge(figures: Figures) -> list[Finding]:
    """The targets, of what was measured."""
    return [
        *_against_plain(figures),
        *_against_ray_data(figures),
        *_first_commits(figures),
        *_memory(figures),
        *_cutting(figures),
    ]


def _against_plain(figures: Figures) -> Iterable[Finding]:
    for what in figures.inputs(STEADY):
        if ratios := figures.ratios(STEADY, what, PLAIN):
            median = statistics.median(ratios)
            yield Finding(
                f"{what}: steady rate ÷ two plain processes at once: median of {len(ratios)} pairs {median:.2f} "
                f"(≥ {LEAST_BESIDE_PLAIN})",
                median >= LEAST_BESIDE_PLAIN,
            )


def _against_ray_data(figures: Figures) -> Iterable[Finding]:
    for what in figures.inputs(WHOLE):
        if ratios := figures.ratios(WHOLE, what, RAY_DATA):
            times = 1 / statistics.median(ratios)
            yield Finding(
                f"{what}: read_json → map_batches → write_json takes {times:.1f} times as long, end to end "
                f"(≥ {LEAST_BESIDE_RAY_DATA:g})",
                times >= LEAST_BESIDE_RAY_DATA,
            )


def _first_commits(figures: Figures) -> Iterable[Finding]:
    for what in figures.inputs(FIRST):
        latest = max(figures.of(FIRST, what))
        yield Finding(
            f"{what}: first part committed {latest:.2f} s after POST at the latest (≤ {MOST_FIRST_COMMIT_S:g} s)",
            latest <= MOST_FIRST_COMMIT_S,
        )


def _memory(figures: Figures) -> Iterable[Finding]:
    inputs = figures.inputs(MEMORY)
    if len(inputs) < 2:
        return
    small, large = (statistics.median(figures.of(MEMORY, what)) for what in (inputs[0], inputs[-1]))
    growth = large / small
    yield Finding(
        f"memory of a job's processes: {small:.0f} MiB over {inputs[0]}, {large:.0f} MiB over {inputs[-1]}, "
        f"{growth:.2f} times (≤ {MOST_GROWTH:.2f})",
        growth <= MOST_GROWTH,
    )


def _cutting(figures: Figures) -> Iterable[Finding]:
    for what in figures.inputs(CUTTING):
        best = max(figures.of(CUTTING, what))
        yield Finding(
            f"{what}: cut at {best:,.0f} MB/s by one thread (≥ {LEAST_CUTTING_MB_PER_S:g})",
            best >= LEAST_CUTTING_MB_PER_S,
        )


def write(folder: Path, figures: Figures, findings: Sequence[Finding], circumstances: Sequence[str]) -> None:
    """batch.md and, every measurement by itself, batch.json."""
    folder.mkdir(parents=True, exist_ok=True)
    page = [
        "# A batch job, beside plain processes and Ray Data",
        "",
        table(figures),
        "",
        "## Targets",
        "",
        *(f"- {'met' if finding.is_met else 'MISSED'}: {finding.what}" for finding in findings),
        "",
        "## How",
        "",
        *(f"- {line}" for line in circumstances),
        "",
    ]
    (folder / "batch.md").write_text("\n".join(page), "utf-8")
    measured: list[Mapping[str, object]] = [asdict(each) for each in figures.measured]
    (folder / "batch.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    print(f"\nwritten: {folder}/batch.md, .json", flush=True)
