"""`scripts/bench deploy`: what it makes of its measurements; no timing is asserted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from scripts.benchmarks.behaviour.stage import Finding
from scripts.benchmarks.comparison.workloads import WORKLOADS
from scripts.benchmarks.deploys.figures import (
    BARE,
    NEW,
    PLAIN,
    REGISTERED,
    STANDBY,
    WAKE,
    Figures,
    Measurement,
    judge,
    table,
    write,
)
from scripts.benchmarks.deploys.ours import new_package


def figures(*rounds: tuple[str, float, float, float]) -> Figures:
    """Of each round: what was done, and its seconds with a standby, without, and bare."""
    return Figures(
        [
            Measurement(number, what, way, seconds)
            for number, (what, *taken) in enumerate(rounds)
            for way, seconds in zip((STANDBY, PLAIN, BARE), taken, strict=True)
        ]
    )


def missed(found: Figures) -> list[str]:
    """The lines that do not hold."""
    return [each.what for each in judge(found) if not each.is_met]


def test_ratios_are_of_one_round_each() -> None:
    """A slow round is slow for both; by the medians of all this would be 1.50."""
    found = figures((REGISTERED, 1.0, 2.0, 2.0), (REGISTERED, 1.0, 8.0, 8.0), (REGISTERED, 1.0, 3.0, 1.0))
    assert found.ratios(REGISTERED) == [1.0, 1.0, 3.0]
    assert found.ratios(NEW) == []
    assert "median of 3 pairs 1.00, ratio of the medians 1.50" in table(found)
    assert missed(found) == []


def test_each_target_is_judged_by_its_median() -> None:
    """One long deploy decides nothing; two of three do."""
    assert missed(figures((NEW, 1.0, 1.3, 1.0), (NEW, 1.0, 1.3, 1.0), (NEW, 9.0, 9.0, 1.0))) == []
    assert missed(figures((NEW, 1.1, 1.4, 1.0), (NEW, 1.1, 1.4, 1.0), (NEW, 0.1, 0.1, 1.0))) == [
        "a new file:// package, with a standby: median of 3 1.10 s (≤ 1.0 s)",
        "a new file:// package, without a standby ÷ bare serve.run: median of 3 pairs 1.40 (≤ 1.3)",
    ]
    wakes = Figures([Measurement(0, WAKE, STANDBY, 1.6), Measurement(0, WAKE, PLAIN, 5.0)])
    assert missed(wakes) == ["waking from zero, with a standby: median of 1 1.60 s (≤ 1.5 s)"]


def test_ways_that_were_not_measured_have_no_line() -> None:
    """Neither a verdict nor a division by nothing."""
    found = Figures([Measurement(0, REGISTERED, PLAIN, 4.0)])
    assert judge(found) == []
    assert table(found).splitlines()[2:] == [
        "| models:// of a registered model | without | 1 | 4.00 s | 4.00 s | 4.00 s |"
    ]


def test_a_page_and_every_measurement_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page says what was missed."""
    found = figures((NEW, 1.0, 1.3, 1.0))
    write(tmp_path / "out", found, [Finding("a", True), Finding("b", False)], ["on a machine"])
    page = (tmp_path / "out" / "deploy.md").read_text("utf-8")
    assert page.splitlines()[-8:] == [
        "## Targets",
        "",
        "- met: a",
        "- MISSED: b",
        "",
        "## How",
        "",
        "- on a machine",
    ]
    measured = json.loads((tmp_path / "out" / "deploy.json").read_text("utf-8"))
    assert [each["seconds"] for each in measured] == [1.0, 1.3, 1.0]
    assert "deploy.md" in capsys.readouterr().out


def test_a_new_package_has_another_digest_and_computes_the_same(tmp_path: Path) -> None:
    """Two of them differ from each other, too."""
    workload = WORKLOADS["digits"](tmp_path)
    packages = [new_package(workload.package, tmp_path / name) for name in ("one", "two")]
    paths = [workload.graph, *(package / "model.onnx" for package in packages)]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 3
    assert (packages[0] / "model.yaml").read_bytes() == (workload.package / "model.yaml").read_bytes()
    import onnx

    graphs = [onnx.load(path).graph for path in paths]
    assert graphs[0] == graphs[1] == graphs[2]
