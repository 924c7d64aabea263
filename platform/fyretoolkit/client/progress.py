"""Progress for people: a bar on a terminal and in a notebook, lines elsewhere; on stderr, so that pipes stay clean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fyretoolkit.schemas.deployments import Event
from fyretoolkit.schemas.jobs import JobResource

ShowJob: TypeAlias = Callable[[JobResource], object]
ShowEvent: TypeAlias = Callable[[Event], object]
_LINE_SHARE = 0.1
"""A line is printed when this much more of the job is done."""


@contextmanager
def job_progress(progress: bool | ShowJob, console: Console | None = None) -> Iterator[ShowJob]:
    """What to call with a job at each look: nothing, a bar, lines, or the caller's own function."""
    if callable(progress):
        yield progress
    elif not progress:
        yield _ignore
    else:
        shown_on = console or Console(stderr=True)
        if shown_on.is_terminal or shown_on.is_jupyter:
            with _bar(shown_on) as show:
                yield show
        else:
            yield _Lines(shown_on)


class EventPrinter:
    """Called with each event of a deployment; counts them."""

    def __init__(self, show: ShowEvent) -> None:
        self._show = show
        self.count: int = 0

    def __call__(self, event: Event) -> None:
        """Shows the next event."""
        self.count += 1
        self._show(event)


def event_printer(progress: bool | ShowEvent) -> EventPrinter:
    """What to call with the events of a deployment: nothing, a line for each, or the caller's own function."""
    if callable(progress):
        return EventPrinter(progress)
    return EventPrinter(_print_event if progress else _ignore)


def _ignore(_: object) -> None:
    """Nobody looks."""


def _print_event(event: Event) -> None:
    print(f"{event.stage}: {event.message}", file=sys.stderr)


@contextmanager
def _bar(console: Console) -> Iterator[ShowJob]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def show(job: JobResource) -> None:
            failed = f", {job.progress.failed} failed" if job.progress.failed else ""
            bar.update(
                task,
                description=f"{job.id} {job.status}{failed}",
                completed=job.progress.processed,
                total=job.progress.total,
            )

        yield show


class _Lines:
    """A line when the status changes, and whenever another tenth is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = ""
        self._processed = 0

    def __call__(self, job: JobResource) -> None:
        done, total = job.progress.processed, job.progress.total
        step = (total or 0) * _LINE_SHARE
        if job.status == self._status and (done == self._processed or done - self._processed < step):
            return
        self._status, self._processed = job.status, done
        of = f"{done}/{total}" if total is not None else str(done)
        failed = f", {job.progress.failed} failed" if job.progress.failed else ""
        self._console.print(
            f"{job.id} {job.status} {of}{failed}", soft_wrap=True, markup=False, highlight=False
        )
