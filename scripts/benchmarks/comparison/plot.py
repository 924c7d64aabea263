"""The comparison as an SVG written by hand: a panel a workload, a bar a system, every bar with its value.

Each panel has a scale of its own from zero; the README shows the picture on light and dark pages alike, so it brings
its own background. matplotlib would be a dependency of 10 packages for three rows of rectangles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from scripts.benchmarks.comparison.floors import OURS, Table
from scripts.benchmarks.comparison.measurements import ORT_ALONE, Figures
from scripts.benchmarks.comparison.page import ms, rate

_WIDTH, _MARGIN, _NAMES, _VALUES = 860, 24, 190, 190
_BAR, _STEP, _HEAD, _GAP = 20, 28, 46, 22
_OURS_COLOR, _LIMIT_COLOR, _OTHER_COLOR = "#d9480f", "#868e96", "#4c6ef5"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
_LIMIT_TITLE = "ONNX Runtime alone"


@dataclass(frozen=True, slots=True)
class Bar:
    """One system in one panel."""

    title: str
    value: float
    label: str
    color: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One workload."""

    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """In pixels, with the space below."""
        return _HEAD + _STEP * len(self.bars) + _GAP


def plot(table: Table, titles: Mapping[str, str], connections: int, caption: str) -> str:
    """The picture of what was measured at so many connections; the best system of each panel stands first."""
    workloads = dict.fromkeys(figures.workload for figures in table)
    panels = [_panel(table, workload, titles, connections) for workload in workloads]
    panels = [panel for panel in panels if panel.bars]
    height = _MARGIN + sum(panel.height for panel in panels) + _MARGIN
    parts = [
        f"<svg xmlns='http:"
        f"//www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' "
        f"width='{_WIDTH}' height='{height}' role='img' {_FONT}>",
        f"<title>{escape(f'Predictions a second at {connections} connections')}</title>",
        f"<rect width='{_WIDTH}' height='{height}' rx='8' fill='#ffffff'/>",
    ]
    top = _MARGIN
    for panel in panels:
        parts += _drawn(panel, top)
        top += panel.height
    parts += [_text(_MARGIN, height - 16, caption, size=11, color="#868e96"), "</svg>", ""]
    return "\n".join(parts)


def _panel(table: Table, workload: str, titles: Mapping[str, str], connections: int) -> Panel:
    shown = [each for each in table if each.workload == workload and each.connections == connections]
    unit = "requests/s" if all(each.rps == each.rows_per_s for each in shown) else "rows/s"
    bars = [
        Bar(
            titles[each.system],
            each.rows_per_s,
            f"{rate(each.rows_per_s)}  ({_latency(each)})",
            _OURS_COLOR if each.system == OURS else _OTHER_COLOR,
        )
        for each in shown
    ]
    alone = table.find(workload, ORT_ALONE, 1)
    # Of a tiny model the limit is a hundred times what HTTP allows: beside it, nothing could be told apart.
    if alone and bars and alone.rows_per_s < 5 * max(bar.value for bar in bars):
        bars.append(Bar(_LIMIT_TITLE, alone.rows_per_s, rate(alone.rows_per_s), _LIMIT_COLOR))
    bars.sort(key=lambda bar: -bar.value)
    return Panel(f"{workload}, {connections} connections: {unit} (p99)", bars)


def _latency(figures: Figures) -> str:
    return f"{ms(figures.p99_s)} ms"


def _drawn(panel: Panel, top: int) -> list[str]:
    longest = max((bar.value for bar in panel.bars), default=0) or 1
    room = _WIDTH - 2 * _MARGIN - _NAMES - _VALUES
    parts = [_text(_MARGIN, top + 18, panel.title, size=15, weight=600)]
    for number, bar in enumerate(panel.bars):
        y = top + _HEAD - 8 + number * _STEP
        width = max(1.0, room * bar.value / longest)
        left = _MARGIN + _NAMES
        weight = 600 if bar.color == _OURS_COLOR else 400
        parts += [
            _text(left - 10, y + 15, bar.title, size=13, anchor="end", weight=weight),
            f"<rect x='{left}' y='{y}' width='{width:.1f}' height='{_BAR}' rx='3' fill='{bar.color}'/>",
            _text(left + width + 8, y + 15, bar.label, size=13, weight=weight),
        ]
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    weight: int = 400,
    color: str = "#212529",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='{color}'>{escape(text)}</text>"
    )
