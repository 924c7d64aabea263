"""Progress: a bar on a terminal, lines elsewhere, and the caller's own function."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fyretoolkit.client.progress import event_printer, job_progress
from fyretoolkit.core.lifecycles import JobStatus
from fyretoolkit.schemas.deployments import Event
from fyretoolkit.schemas.jobs import JobResource, Progress


def _job(status: JobStatus, done: int = 0, total: int | None = None, failed: int = 0) -> JobResource:
    fields: dict[str, Any] = dict.fromkeys(JobResource.model_fields)
    progress = Progress(processed=done, total=total, succeeded=done - failed, failed=failed)
    return JobResource.model_construct(**{**fields, "id": "job_1", "status": status, "progress": progress})


_COURSE = [
    _job(JobStatus.QUEUED),
    _job(JobStatus.QUEUED),
    _job(JobStatus.PROCESSING),
    *(_job(JobStatus.PROCESSING, done, 100, failed=done // 50) for done in range(1, 100, 3)),
    _job(JobStatus.COMPLETED, 100, 100, failed=2),
]


def _shown(*, is_terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=100)
    with job_progress(True, console) as show:
        for job in _COURSE:
            show(job)
    return text.getvalue()


def test_lines_where_nobody_sees_a_bar() -> None:
    """One when the status changes and one for each tenth, without any control character."""
    lines = _shown(is_terminal=False).splitlines()
    assert lines[:2] == ["job_1 queued 0", "job_1 processing 0"]
    assert lines[-1] == "job_1 completed 100/100, 2 failed"
    assert 8 <= len(lines) <= 13
    assert all(line.isprintable() for line in lines)


def test_a_bar_on_a_terminal() -> None:
    shown = _shown(is_terminal=True)
    assert "\x1b[" in shown
    assert "100/100" in shown
    assert "completed, 2 failed" in shown


def test_nothing_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with job_progress(False) as show:
        show(_COURSE[0])
    event_printer(False)(Event(at=1, stage="starting", message="It starts."))
    assert capsys.readouterr() == ("", "")


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Results on stdout stay clean."""
    with job_progress(True) as show:
        show(_COURSE[0])
    event_printer(True)(Event(at=1, stage="starting", message="It starts."))
    out, err = capsys.readouterr()
    assert (out, err) == ("", "job_1 queued 0\nstarting: It starts.\n")


def test_the_callers_own_function_sees_every_look() -> None:
    seen: list[JobResource] = []
    with job_progress(seen.append) as show:
        for job in _COURSE:
            show(job)
    assert seen == _COURSE
