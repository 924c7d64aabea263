"""The benchmark of batch jobs, in small: its plain processes and a job give the same lines; no timing is asserted."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from scripts.benchmarks.batch import compare
from scripts.benchmarks.batches.inputs import DIGITS, GLOSSES, Task
from scripts.benchmarks.batches.jobs import run_job
from scripts.benchmarks.batches.plain_pair import lines_of, run_plain
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system

ROWS = 3000


@pytest.mark.parametrize("task", [DIGITS, GLOSSES])
def test_a_job_answers_as_plain_processes_do(
    platform: RunningPlatform, client: httpx.Client, tmp_path: Path, task: Task
) -> None:
    """Row by row what ONNX Runtime says of halves of the file; every row is in one commit."""
    source = task.write(tmp_path / "rows.jsonl", ROWS)
    run_plain(task, source, tmp_path)
    job = run_job(platform, client, task.model, source)
    compare(job.output, lines_of(tmp_path))
    assert sum(commit.rows for commit in job.commits) == ROWS
    assert 0 < job.first_commit_s <= job.seconds
