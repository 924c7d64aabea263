"""The comparison as text: tables for the terminal and for a README, the machine described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from scripts.benchmarks.comparison.floors import OURS, Table, Verdict, plural
from scripts.benchmarks.comparison.measurements import OPEN_LOOP, OPEN_LOOP_SHARE, ORT_ALONE, Figures

ORT_TITLE = "ONNX Runtime alone, one thread (the limit)"
_BUSY_GENERATOR = 0.9


def markdown(
    table: Table,
    titles: Mapping[str, str],
    verdicts: Sequence[tuple[Verdict, str]],
    circumstances: Sequence[str],
) -> str:
    """The page that the README links: a table a workload, ratios, floors, and how it was measured."""
    parts = ["# Predictions a second, beside other servers of the same model", ""]
    for workload in _distinct(figures.workload for figures in table):
        parts += [f"## {workload}", "", *_workload(table, workload, titles), ""]
    parts += ["## Floors", "", *(f"- {verdict.value}: {line}" for verdict, line in verdicts), ""]
    parts += ["## How", "", *(f"- {line}" for line in circumstances), ""]
    return "\n".join(parts)


def _workload(table: Table, workload: str, titles: Mapping[str, str]) -> list[str]:
    rows = [figures for figures in table if figures.workload == workload and figures.system != ORT_ALONE]
    counts = sorted({figures.connections for figures in rows} - {OPEN_LOOP})
    heads = ["system", *map(plural, counts), "open loop"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for system in _distinct(figures.system for figures in rows):
        cells = [_cell(table.find(workload, system, count)) for count in (*counts, OPEN_LOOP)]
        lines.append(_line([titles[system], *cells]))
    if alone := table.find(workload, ORT_ALONE, 1):
        lines.append(_line([ORT_TITLE, f"{alone.rows_per_s:,.0f} rows/s", *[""] * len(counts)]))
    return [*lines, "", *_ratios(table, workload, titles, counts), *_remarks(rows)]


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return ""
    rows = "" if figures.rps == figures.rows_per_s else f", {figures.rows_per_s:,.0f} rows/s"
    times = f"{ms(figures.p50_s)} / {ms(figures.p99_s)} ms"
    return f"{rate(figures.rps)}/s{rows}<br>{times}<br>{cpu_ms(figures.cpu_s)} ms of CPU"


def _ratios(table: Table, workload: str, titles: Mapping[str, str], counts: Sequence[int]) -> list[str]:
    lines = []
    for system in _distinct(figures.system for figures in table if figures.workload == workload):
        if system == OURS:
            continue
        shown = [
            f"{ratio} at {count}" for count in counts if (ratio := ratio_to(table, workload, system, count))
        ]
        if shown:
            lines.append(f"- {titles[OURS]} ÷ {titles.get(system, ORT_TITLE)}: {', '.join(shown)}")
    return lines


def ratio_to(table: Table, workload: str, system: str, connections: int) -> str:
    """Our rows a second over another's, as text; empty where one was not measured or the ratio would be 0.00."""
    ours = table.find(workload, OURS, connections)
    theirs = table.find(workload, system, 1 if system == ORT_ALONE else connections)
    if ours is None or theirs is None or not theirs.rows_per_s:
        return ""
    ratio = ours.rows_per_s / theirs.rows_per_s
    return f"{ratio:.2f}×" if ratio >= 0.05 else ""


def _remarks(rows: Sequence[Figures]) -> list[str]:
    """What went wrong, so that no figure is read without it."""
    remarks = []
    for figures in rows:
        where = f"{figures.system} at {_load(figures.connections)}"
        if figures.failed:
            remarks.append(f"- {where}: {figures.failed} requests failed")
        if figures.refused:
            remarks.append(
                f"- {where}: {figures.refused} requests refused, and sent again as Retry-After asked"
            )
        if figures.generator_share > _BUSY_GENERATOR:
            remarks.append(f"- {where}: the load generator used {figures.generator_share:.0%} of a CPU")
    return remarks


def terminal(table: Table, baselines: Sequence[str]) -> str:
    """One line for each system and load, with our ratio to each baseline."""
    heads = "".join(f"{f'÷ {name}':>14}" for name in baselines)
    columns = f"{'load':<10}{'req/s':>10}{'rows/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}"
    lines = [f"{'workload':<14}{'system':<13}{columns}{heads}"]
    for figures in sorted(table, key=lambda each: (each.workload, each.connections or 1 << 20)):
        ratios = ""
        if figures.system == OURS and figures.connections != OPEN_LOOP:
            shown = (ratio_to(table, figures.workload, name, figures.connections) for name in baselines)
            ratios = "".join(f"{ratio:>14}" for ratio in shown)
        lines.append(
            f"{figures.workload:<14}{figures.system:<13}{_load(figures.connections, figures.system):<10}"
            f"{rate(figures.rps):>10}{rate(figures.rows_per_s):>11}"
            f"{ms(figures.p50_s):>9}{ms(figures.p99_s):>9}{cpu_ms(figures.cpu_s):>9}{ratios}"
        )
    return "\n".join(lines)


def _load(connections: int, system: str = "") -> str:
    if system == ORT_ALONE:
        return "loop"
    return f"open {OPEN_LOOP_SHARE:.0%}" if connections == OPEN_LOOP else str(connections)


def rate(value: float) -> str:
    """A rate with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ms(seconds: float) -> str:
    """Milliseconds; a dash for none."""
    if isnan(seconds):
        return "–"
    return f"{seconds * 1000:,.0f}" if seconds >= 0.1 else f"{seconds * 1000:.1f}"


def cpu_ms(seconds: float) -> str:
    """Milliseconds of CPU time a request; a dash where it is not known."""
    return "–" if isnan(seconds) else f"{seconds * 1000:.2f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _distinct(names: object) -> list[str]:
    return list(dict.fromkeys(names))  # type: ignore[call-overload]
