"""`scripts/bench batch`: what it makes of its measurements, and its plain processes; no timing is asserted."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest

from scripts.benchmarks.__main__ import main
from scripts.benchmarks.batch import compare
from scripts.benchmarks.batches.figures import (
    CUTTING,
    FIRST,
    MEMORY,
    OURS,
    PLAIN,
    RAY_DATA,
    STEADY,
    WHOLE,
    Figures,
    Measurement,
    judge,
    table,
    write,
)
from scripts.benchmarks.batches.inputs import DIGITS, GLOSSES, Task, write_csv
from scripts.benchmarks.batches.jobs import Commit, steady_rate
from scripts.benchmarks.batches.plain_pair import lines_of, run_plain
from scripts.benchmarks.comparison.workloads import WrongAnswerError


def figures(kind: str, what: str, **ways: list[float]) -> Figures:
    """Of each way, a figure a round."""
    names = {"ours": OURS, "plain": PLAIN, "ray": RAY_DATA}
    return Figures(
        [
            Measurement(number, kind, what, names[way], value)
            for way, values in ways.items()
            for number, value in enumerate(values)
        ]
    )


def verdicts(found: Figures) -> list[tuple[bool, str]]:
    """Of each target, whether it is met and how that is said."""
    return [(each.is_met, each.what) for each in judge(found)]


def test_each_target_is_judged_against_the_bar_of_the_issue() -> None:
    """Ratios round by round; Ray Data, which is measured once, against the median of ours."""
    assert verdicts(figures(STEADY, "x", ours=[90.0, 45.0, 10.0], plain=[100.0, 50.0, 100.0])) == [
        (True, "x: steady rate ÷ two plain processes at once: median of 3 pairs 0.90 (≥ 0.9)")
    ]
    assert [met for met, _ in verdicts(figures(STEADY, "x", ours=[89.0], plain=[100.0]))] == [False]
    assert verdicts(figures(WHOLE, "x", ours=[2.0, 3.0, 90.0], ray=[24.0])) == [
        (True, "x: read_json → map_batches → write_json takes 8.0 times as long, end to end (≥ 8)")
    ]
    assert [met for met, _ in verdicts(figures(WHOLE, "x", ours=[3.1], ray=[24.0]))] == [False]
    assert verdicts(figures(FIRST, "x", ours=[1.0, 3.01])) == [
        (False, "x: first part committed 3.01 s after POST at the latest (≤ 3 s)")
    ]
    assert [met for met, _ in verdicts(figures(CUTTING, "x", ours=[499.0, 500.0]))] == [True]


def test_memory_is_that_of_the_largest_input_over_that_of_the_smallest() -> None:
    """And one input alone says nothing."""
    small, large = (
        figures(MEMORY, what, ours=[value]) for what, value in (("100 MiB", 200.0), ("2 GiB", 221.0))
    )
    assert judge(small) == []
    ((is_met, text),) = verdicts(Figures([*small.measured, *large.measured]))
    assert not is_met
    assert text.endswith("200 MiB over 100 MiB, 221 MiB over 2 GiB, 1.10 times (≤ 1.10)")


def test_the_steady_rate_begins_when_all_workers_have_begun() -> None:
    """By hand: from 3 on, when the second begins, 60 rows in 4 s and 10 in 2. One commit alone has no rate."""
    commits = [Commit(1, 7, 100), Commit(3, 8, 10), Commit(5, 8, 10), Commit(6, 7, 20), Commit(7, 7, 40)]
    assert steady_rate(commits) == 60 / 4 + 10 / 2
    assert steady_rate(commits[:1]) == 0


def test_a_page_and_every_measurement_are_written(tmp_path: Path) -> None:
    """The page says what was missed."""
    found = figures(STEADY, "x", ours=[50.0], plain=[100.0])
    write(tmp_path / "out", found, judge(found), ["on a machine"])
    page = (tmp_path / "out" / "batch.md").read_text("utf-8")
    assert "- MISSED: x: steady rate" in page
    assert table(found) in page
    assert len(orjson.loads((tmp_path / "out" / "batch.json").read_bytes())) == 2


@pytest.mark.parametrize("task", [DIGITS, GLOSSES])
def test_two_plain_processes_answer_every_row_once(tmp_path: Path, task: Task) -> None:
    """Whichever half its line begins in; and a job whose answers differ, or are fewer, is noticed."""
    source = task.write(tmp_path / "rows.jsonl", 301)
    assert run_plain(task, source, tmp_path) > 0
    written = [path.read_bytes().splitlines(keepends=True) for path in lines_of(tmp_path)]
    assert [orjson.loads(line)["id"] for lines in written for line in lines] == list(range(301))
    assert all(len(lines) > 100 for lines in written)
    whole = tmp_path / "whole"
    whole.write_bytes(b"".join(line for lines in written for line in lines))
    compare(whole, lines_of(tmp_path))
    whole.write_bytes(b"".join(line for lines in written for line in lines[:-1]))
    with pytest.raises(WrongAnswerError):
        compare(whole, lines_of(tmp_path))


def test_the_csv_that_is_cut_is_csv(tmp_path: Path) -> None:
    """With and without quotes."""
    plain = write_csv(tmp_path / "plain.csv", 1000, quoting=csv.QUOTE_MINIMAL).read_text("utf-8")
    quoted = write_csv(tmp_path / "quoted.csv", 1000, quoting=csv.QUOTE_ALL).read_text("utf-8")
    assert '"' not in plain
    for text in (plain, quoted):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {2}
    assert quoted.splitlines()[1].startswith('"0","')


def test_cutting_is_measured_without_a_platform(capsys: pytest.CaptureFixture[str]) -> None:
    """Three kinds of files, each with a verdict, whatever it is on this machine now."""
    main(["batch", "--parts", "cutting", "--quick"])
    said = capsys.readouterr().out
    assert said.count("by one thread (≥ 500)") == 3
