"""`scripts/bench predict`: what is compared is compared rightly; no timing is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnxruntime
import pytest

from scripts.benchmarks.comparison.floors import FLOORS, OURS, Latency, Ratio, Table, Verdict, judge
from scripts.benchmarks.comparison.machine import busy_note, describe_machine
from scripts.benchmarks.comparison.measurements import (
    OPEN_LOOP,
    ORT_ALONE,
    Figures,
    measure,
    measure_alone,
    medians,
)
from scripts.benchmarks.comparison.page import markdown, terminal
from scripts.benchmarks.comparison.peers import PeerSystem, UnavailableError
from scripts.benchmarks.comparison.plot import plot
from scripts.benchmarks.comparison.workloads import WORKLOADS, Reference, Workload, WrongAnswerError
from scripts.benchmarks.predict import write

NAN = float("nan")
TITLES = {OURS: "FyreToolkit", "fastapi": "FastAPI", "ray-serve": "Ray Serve"}


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workload]:
    """All of them."""
    folder = tmp_path_factory.mktemp("workloads")
    return {name: make(folder) for name, make in WORKLOADS.items()}


def figures(system: str, rps: float, **fields: float) -> Figures:
    """Of digits at 64 connections, unless said otherwise."""
    known = {
        "workload": "digits",
        "connections": 64,
        "rows_per_s": rps,
        "p50_s": 0.01,
        "p99_s": 0.02,
        "cpu_s": 0.0015,
    } | fields
    return Figures(system=system, rps=rps, **known)  # type: ignore[arg-type]


def test_a_ratio_is_met_at_its_bound_and_missed_below():
    """Rows a second are compared, of the same workload and number of connections."""
    floor = Ratio("digits", 64, "fastapi", 1.5)
    table = Table([figures(OURS, 1500), figures("fastapi", 1000), figures("fastapi", 10, connections=16)])
    assert floor.judge(table) == (Verdict.MET, "digits, 64 connections: ≥ 1.5 × fastapi: 1.50")
    table = Table([figures(OURS, 1499), figures("fastapi", 1000)])
    assert floor.judge(table)[0] is Verdict.MISSED
    assert floor.judge(Table([figures(OURS, 1499)]))[0] is Verdict.NOT_MEASURED
    assert floor.judge(Table([figures("fastapi", 1)]))[0] is Verdict.NOT_MEASURED


def test_onnxruntime_alone_is_compared_in_rows():
    """A request has 16 rows: 90 requests a second are 1,440 rows, 90% of 1,600."""
    table = Table(
        [
            figures(OURS, 90, workload="sentiment-v1", rows_per_s=1440),
            figures(ORT_ALONE, 100, workload="sentiment-v1", connections=1, rows_per_s=1600),
        ]
    )
    verdict, line = Ratio("sentiment-v1", 64, ORT_ALONE, 0.85).judge(table)
    assert (verdict, line[-4:]) == (Verdict.MET, "0.90")
    assert Ratio("sentiment-v1", 64, ORT_ALONE, 0.91).judge(table)[0] is Verdict.MISSED


def test_a_latency_is_met_at_its_bound_and_missed_above():
    """The percentile that is named; one that does not exist is missed."""
    table = Table([figures(OURS, 1000, p50_s=0.003, p99_s=0.0301)])
    assert Latency("digits", 64, 50, 0.003).judge(table)[0] is Verdict.MET
    assert Latency("digits", 64, 99, 0.030).judge(table)[0] is Verdict.MISSED
    assert Latency("digits", 64, 99, 1).judge(Table([figures(OURS, 0, p99_s=NAN)]))[0] is Verdict.MISSED
    assert Latency("digits", 1, 99, 1).judge(table)[0] is Verdict.NOT_MEASURED


def test_with_failed_requests_nothing_is_met():
    """However fast the others were."""
    table = Table([figures(OURS, 9000, failed=3), figures("fastapi", 1)])
    verdict, line = Ratio("digits", 64, "fastapi", 1.5).judge(table)
    assert verdict is Verdict.MISSED
    assert "3 requests failed" in line


def test_the_floors_are_those_promised():
    """Each judged once with what just meets it, and once with a thousandth less."""
    systems = {"ray-serve": 40, "fastapi": 600, "mosec": 1900}
    peers = [figures(name, rps, connections=count) for name, rps in systems.items() for count in (1, 16, 64)]
    alone = [
        figures(ORT_ALONE, 100, connections=1, workload=name) for name in ("sentiment-v1", "transformer")
    ]

    def ours(share: float) -> list[Figures]:
        return [
            figures(OURS, 1000 * share, p99_s=0.030 / share),  # 25 × 40; 1.5 × 600 = 900; 0.5 × 1900 = 950
            figures(OURS, 480 * share, connections=16),
            figures(OURS, 1, connections=1, p50_s=0.003 / share),
            figures(OURS, 85 * share, workload="sentiment-v1"),
            figures(OURS, 95 * share, workload="transformer"),
        ]

    def missed(share: float) -> int:
        return sum(verdict is Verdict.MISSED for verdict, _ in judge(Table([*peers, *alone, *ours(share)])))

    assert len(FLOORS) == 8
    assert missed(1) == 0
    assert missed(0.999) == 6
    assert missed(0.899) == 8


def test_of_several_rounds_the_medians_count_and_failures_add_up():
    """By hand, for one load of one system beside another."""
    rounds = [
        figures(OURS, 100, p50_s=0.1, p99_s=0.5, failed=1, generator_share=0.2),
        figures("fastapi", 7),
        figures(OURS, 300, p50_s=0.2, p99_s=0.4, refused=2, generator_share=0.9),
        figures(OURS, 110, p50_s=0.4, p99_s=0.9, failed=2, cpu_s=0.5),
    ]
    first, second = medians(rounds)
    assert first == figures(OURS, 110, p50_s=0.2, p99_s=0.5, failed=3, refused=2, generator_share=0.9)
    assert second == rounds[1]


@pytest.fixture
def table() -> Table:
    """Two systems at two loads, one of them with refusals, and the limit."""
    return Table(
        [
            figures(ORT_ALONE, 5000, connections=1, p50_s=NAN, p99_s=NAN),
            figures("fastapi", 1000),
            figures("fastapi", 800, connections=1),
            figures(OURS, 2500, refused=7),
            figures(OURS, 400, connections=1),
            figures(OURS, 1750, connections=OPEN_LOOP, p50_s=0.004),
            figures("fastapi", 10, workload="sentiment-v1", rows_per_s=160),
        ]
    )


def test_the_page_has_every_figure_and_says_what_went_wrong(table: Table):
    """A row a system, a column a load, our ratio to each baseline, verdicts, the machine."""
    page = markdown(table, TITLES, judge(table), ["CPU: a fast one"])
    assert "| system | 1 connection | 64 connections | open loop |" in page
    cells = ("400/s<br>10.0 / 20.0 ms", "2,500/s<br>10.0 / 20.0 ms", "1,750/s<br>4.0 / 20.0 ms")
    assert f"| FyreToolkit | {' | '.join(f'{cell}<br>1.50 ms of CPU' for cell in cells)} |\n" in page
    assert "- FyreToolkit ÷ FastAPI: 0.50× at 1, 2.50× at 64" in page
    assert "fyre at 64: 7 requests refused" in page
    assert "10.0/s, 160 rows/s" in page
    assert "- met: digits, 64 connections: ≥ 1.5 × fastapi: 2.50" in page
    assert "- CPU: a fast one" in page


def test_the_terminal_shows_ratios_beside_our_figures(table: Table):
    """And the open loop without: its rate is our own choice."""
    lines = terminal(table, ["fastapi", ORT_ALONE]).splitlines()
    assert len(lines) == 8
    at_64 = next(line for line in lines if OURS in line and " 64 " in line)
    assert at_64.split()[-2:] == ["2.50×", "0.50×"]
    assert "×" not in next(line for line in lines if "open 70%" in line)


def test_the_plot_is_a_picture_with_a_bar_for_each_system(table: Table):
    """Well-formed; bars are as long as their values say, from zero."""
    root = ET.fromstring(plot(table, TITLES, 64, "a <fast> machine"))  # noqa: S314 - our own text
    bars = [element for element in root.iter() if element.tag.endswith("rect")][1:]
    widths = [float(bar.attrib["width"]) for bar in bars]
    # digits: the limit of 5,000, ours of 2,500, FastAPI's 1,000; sentiment: one system.
    assert len(widths) == 4
    assert widths[1] / widths[0] == pytest.approx(0.5, abs=0.001)
    assert widths[2] / widths[0] == pytest.approx(0.2, abs=0.001)
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "digits, 64 connections: requests/s (p99)" in texts
    assert "sentiment-v1, 64 connections: rows/s (p99)" in texts
    assert "a <fast> machine" in texts


def test_what_is_written_holds_every_round(tmp_path: Path):
    """The JSON too, where a missing latency is null."""
    write(tmp_path / "out", [figures(OURS, 1), figures(OURS, 2, p50_s=NAN)], "the page", "<svg/>")
    assert (tmp_path / "out" / "predict.md").read_text() == "the page"
    assert (tmp_path / "out" / "predict.svg").read_text() == "<svg/>"
    rounds = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert [(each["rps"], each["p50_s"]) for each in rounds] == [(1, 0.01), (2, None)]


def test_the_machine_is_described():
    """The CPU, the system, the packages; a machine that others use is said to be busy."""
    assert [line.partition(":")[0] for line in describe_machine()] == ["CPU", "System", "Packages"]
    assert busy_note(0.02) is None
    assert "40%" in str(busy_note(0.4))


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_has_as_many_rows_in_each_request(workloads: dict[str, Workload], name: str):
    """And its graph answers `label` and `probabilities`, which every peer asks for."""
    workload = workloads[name]
    assert {len(items) for items in workload.requests} == {workload.rows}
    assert workload.rows == {"digits": 1, "sentiment-v1": 16, "transformer": 1}[name]
    session = workload.open_session()
    assert {output.name for output in session.get_outputs()} == {"label", "probabilities"}
    assert (workload.package / "model.yaml").exists()
    assert len(set(workload.bodies)) == len(workload.bodies) > 20


def test_the_transformer_has_the_shape_it_claims(workloads: dict[str, Workload]):
    """6 layers of 12·384² weights and more; rows differ in their answers, and company changes none by 1e-6."""
    workload = workloads["transformer"]
    assert workload.graph.stat().st_size == pytest.approx(4 * (6 * 12 * 384**2 + 1128 * 384), rel=0.01)
    session = workload.open_session()
    rows = workload.array([items[0] for items in workload.requests[:3]])
    alone = np.concatenate([session.run(["probabilities"], {"input_ids": row[None]})[0] for row in rows])
    (together,) = session.run(["probabilities"], {"input_ids": rows})
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(alone[:, 0]) > 1e-4


def _right(workload: Workload, number: int) -> list[dict[str, object]]:
    session: onnxruntime.InferenceSession = workload.open_session()
    rows = workload.array(workload.requests[number])
    labels, probabilities = session.run(["label", "probabilities"], {session.get_inputs()[0].name: rows})
    return [
        {"label": label, "probabilities": row}
        for label, row in zip(labels.tolist(), probabilities.tolist(), strict=True)
    ]


def test_right_answers_pass_and_wrong_ones_do_not(workloads: dict[str, Workload]):
    """Another request's answer, a probability that is off by 2e-6, a missing row, and no JSON at all."""
    workload = workloads["sentiment-v1"]
    reference = Reference(workload)
    right = _right(workload, 3)
    reference.check(3, json.dumps({"results": right}).encode())
    named = [
        {**row, "probabilities": dict(zip(("negative", "positive"), row["probabilities"], strict=True))}  # type: ignore[call-overload]
        for row in right
    ]
    reference.check(3, json.dumps({"results": named}).encode())
    off = [{**row, "probabilities": [p + 2e-6 for p in row["probabilities"]]} for row in right]  # type: ignore[attr-defined]
    for wrong in (_right(workload, 4), off, right[:-1], [{"label": 1}]):
        with pytest.raises(WrongAnswerError):
            reference.check(3, json.dumps({"results": wrong}).encode())
    with pytest.raises(WrongAnswerError):
        reference.check(3, b"Internal Server Error")


def test_onnxruntime_alone_is_measured(workloads: dict[str, Workload]):
    """In requests of the workload's size, too."""
    alone = measure_alone(workloads["sentiment-v1"], 0.05)
    assert alone.system == ORT_ALONE
    assert alone.rows_per_s == 16 * alone.rps > 0


@pytest.mark.parametrize("name", ["digits", "sentiment-v1"])
def test_a_real_peer_is_started_measured_and_ended(workloads: dict[str, Workload], name: str):
    """FastAPI, which needs nothing installed: its answers are right, and every load has figures."""
    system, workload = PeerSystem("fastapi"), workloads[name]
    system.open()
    try:
        found = measure(system, system.start(workload), workload, [1, 3], 0.2)
        assert not system.has_ended()
    finally:
        system.stop()
        system.close()
    assert system.has_ended()
    assert [each.connections for each in found] == [1, 3, OPEN_LOOP]
    assert all(each.rps > 0 and each.failed == each.refused == 0 for each in found)
    assert all(each.rows_per_s == each.rps * workload.rows for each in found)
    assert all(0 < each.cpu_s < 1 for each in found)


def test_a_peer_that_does_not_start_is_unavailable(workloads: dict[str, Workload], tmp_path: Path):
    """At once, with the end of its log, and not after two minutes of asking."""
    workload = workloads["digits"]
    broken = Workload("digits", tmp_path, "float32", workload.requests)
    system = PeerSystem("fastapi")
    system.open()
    try:
        target = system.start(broken)
        with pytest.raises(UnavailableError, match=r"model\.onnx"):
            measure(system, target, workload, [1], 0.1)
    finally:
        system.stop()
        system.close()


def test_packages_that_cannot_be_installed_make_a_peer_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """With uv's own words; nothing is left that would pass for installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    system = PeerSystem("mosec")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="cannot be installed"):
            system.open()
        system.close()


def test_closing_removes_the_files_of_a_peer_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Before it was opened, and a second time, there is nothing to remove."""
    (tmp_path / "kept").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    system = PeerSystem("fastapi")
    system.close()
    system.open()
    assert len(list(tmp_path.iterdir())) == 2
    system.close()
    system.close()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
