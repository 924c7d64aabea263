"""`scripts/bench`: every benchmark runs and judges what it measured; no timing is asserted."""

from __future__ import annotations

import pytest

from scripts.benchmarks import pages
from scripts.benchmarks.__main__ import BENCHMARKS, main
from scripts.benchmarks.pages import Page


@pytest.mark.parametrize("name", sorted(pages.FILLS))
def test_pages_of_every_list_can_be_measured(name: str, capsys: pytest.CaptureFixture[str]):
    """First and deep pages, with both limits; each as long in both lists, which the benchmark itself checks."""
    assert main(["pages", "--lists", name, "--count", "250", "--rounds", "2", "--max-ratio", "1e9"]) == 0
    table = capsys.readouterr().out
    assert table.count("first, limit") == table.count("depth 150, limit") == 2


def test_a_ratio_is_that_of_the_medians():
    """One slow request decides nothing."""
    page = Page("first", "/many", "/few", many_s=[0.002, 0.003, 9.0], few_s=[0.001, 0.002, 0.001])
    assert page.ratio == 3.0


def test_every_benchmark_is_listed(capsys: pytest.CaptureFixture[str]):
    """With a line that says what it measures."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in BENCHMARKS)
