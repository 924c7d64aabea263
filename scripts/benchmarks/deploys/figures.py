"""What was measured of deploys and wakes, and what it must be: records, tables, verdicts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from scripts.benchmarks.behaviour.stage import Finding

STANDBY, PLAIN, BARE = "with a standby", "without", "bare serve.run"
REGISTERED, NEW, WAKE = "models:// of a registered model", "a new file:// package", "waking from zero"

MOST_WITH_STANDBY_S = 1.0
MOST_BESIDE_BARE = 1.3
MOST_WAKING_S = 1.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """One deploy, or one wake."""

    round: int
    what: str  # REGISTERED, NEW or WAKE
    way: str  # STANDBY, PLAIN or BARE
    seconds: float


@dataclass(frozen=True)
class Figures:
    """All measurements of a run."""

    measured: Sequence[Measurement]

    def seconds(self, what: str, way: str) -> list[float]:
        """In the order of the rounds."""
        return [each.seconds for each in self.measured if (each.what, each.way) == (what, way)]

    def ratios(self, what: str) -> list[float]:
        """Ours without a standby over the bare one, round by round."""
        pairs: dict[int, dict[str, float]] = {}
        for each in self.measured:
            if each.what == what:
                pairs.setdefault(each.round, {})[each.way] = each.seconds
        return [pair[PLAIN] / pair[BARE] for pair in pairs.values() if PLAIN in pair and BARE in pair]


def table(figures: Figures) -> str:
    """In Markdown: a line for each thing done in each way."""
    lines = ["| | way | n | median | p90 | longest |", "|---|---|---|---|---|---|"]
    for what, way in dict.fromkeys((each.what, each.way) for each in figures.measured):
        found = figures.seconds(what, way)
        cells = (what, way, str(len(found)), *(f"{each:.2f} s" for each in _spread(found)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_ratio_lines(figures)])


def _spread(found: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(found), float(np.percentile(found, 90)), max(found)


def _ratio_lines(figures: Figures) -> Iterable[str]:
    for what in (REGISTERED, NEW):
        if ratios := figures.ratios(what):
            plain, bare = (statistics.median(figures.seconds(what, way)) for way in (PLAIN, BARE))
            yield (
                f"- {what}, without a standby ÷ bare serve.run: median of {len(ratios)} pairs "
                f"{statistics.median(ratios):.2f}, ratio of the medians {plain / bare:.2f}"
            )


def judge(figures: Figures) -> list[Finding]:
    """The targets, of what was measured."""
    findings = []
    for what in (REGISTERED, NEW):
        if found := figures.seconds(what, STANDBY):
            findings.append(_at_most(f"{what}, {STANDBY}", found, MOST_WITH_STANDBY_S))
    for what in (REGISTERED, NEW):
        if ratios := figures.ratios(what):
            median = statistics.median(ratios)
            findings.append(
                Finding(
                    f"{what}, without a standby ÷ bare serve.run: median of {len(ratios)} pairs {median:.2f} "
                    f"(≤ {MOST_BESIDE_BARE})",
                    median <= MOST_BESIDE_BARE,
                )
            )
    if found := figures.seconds(WAKE, STANDBY):
        findings.append(_at_most(f"{WAKE}, {STANDBY}", found, MOST_WAKING_S))
    return findings


def _at_most(what: str, found: Sequence[float], most_s: float) -> Finding:
    median = statistics.median(found)
    return Finding(f"{what}: median of {len(found)} {median:.2f} s (≤ {most_s} s)", median <= most_s)


def write(folder: Path, figures: Figures, findings: Sequence[Finding], circumstances: Sequence[str]) -> None:
    """deploy.md and, every measurement by itself, deploy.json."""
    folder.mkdir(parents=True, exist_ok=True)
    page = [
        "# From POST /deployments to ready",
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
    (folder / "deploy.md").write_text("\n".join(page), "utf-8")
    measured: list[Mapping[str, object]] = [asdict(each) for each in figures.measured]
    (folder / "deploy.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    print(f"\nwritten: {folder}/deploy.md, .json", flush=True)
