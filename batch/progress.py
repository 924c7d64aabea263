"""How far a job is, told to whoever started it: a bar on a terminal, else now and then a line that a log can hold."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 5.0


class Display(Protocol):
    """What shows progress, used as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, processed: int, total: int | None, failed: int) -> None:
        """Records done so far, of how many (None: not counted yet), and how many of them failed."""

    def say(self, text: str) -> None:
        """One line that stays."""


def open_display(stream: TextIO | None = None) -> Display:
    """The display that fits the stream, standard output by default."""
    out = stream or sys.stdout
    return Bar(out) if out.isatty() else Lines(out)


class Lines:
    """A line when the total is known, every few seconds after that, and at the end."""

    def __init__(self, stream: TextIO, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._shown: tuple[int, int | None, int] | None = None
        self._shown_at = -every_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def show(self, processed: int, total: int | None, failed: int) -> None:
        """See `Display`."""
        state = (processed, total, failed)
        is_due = time.monotonic() - self._shown_at >= self._every_s or processed == total
        if total is None or state == self._shown or not is_due:
            return
        self._shown, self._shown_at = state, time.monotonic()
        self.say(f"{processed} of {total} rows, {failed} failed")

    def say(self, text: str) -> None:
        """See `Display`."""
        print(text, file=self._stream, flush=True)


class Bar:
    """A bar that is drawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("rows"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=Console(file=stream),
        )
        self._task = self._progress.add_task("rows", total=None, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, processed: int, total: int | None, failed: int) -> None:
        """See `Display`."""
        self._progress.update(self._task, completed=processed, total=total, failed=failed)

    def say(self, text: str) -> None:
        """See `Display`."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
