"""Rows made to break whoever reads or predicts them, on the running platform: `scripts/chaos rows`, in short."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from scripts.trials.hostile.rows import MODEL, write_csv
from scripts.trials.rows import followed, judge, register
from tests.support.platform import submit

pytestmark = pytest.mark.system


def test_each_hostile_row_is_one_error_line(client: httpx.Client, tmp_path: Path) -> None:
    """Two of them end the process of whoever predicts them: one run dies, and the job is completed."""
    register(client, tmp_path)
    expected = write_csv(tmp_path / "rows.csv", 400)
    job, began = submit(client, MODEL, (tmp_path / "rows.csv").as_uri()), time.monotonic()
    findings = judge("csv", followed(client, job, began), expected)
    assert [finding.what for finding in findings[:-1] if not finding.is_met] == []
