"""Shows the stages of a start: a spinner and check marks on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.status import Status

from fyretoolkit.launch.state import Event

_NAMES = {
    "redis": "Redis",
    "ray": "Ray",
    "serve": "Ray Serve",
    "controller": "Controller",
    "ingress": "HTTP API",
    "models": "Demo models",
    "ready": "Ready",
}


class Progress(Protocol):
    """Whatever shows events to a person."""

    def show(self, event: Event) -> None:
        """Show one event."""

    def close(self) -> None:
        """Nothing more is shown."""


class PlainProgress:
    """A line for each stage that ended, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def show(self, event: Event) -> None:
        """Write a line for what ended, failed or is worth a note."""
        if event.state != "start" and event.stage not in ("failed", "stopped"):
            self._write(describe(event))

    def close(self) -> None:
        """Nothing is kept open."""


class TerminalProgress:
    """A spinner for the running stage and a check mark for each that ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def show(self, event: Event) -> None:
        """Move the spinner on, or leave a line behind."""
        if event.state == "start":
            self.close()
            self._status = self._console.status(f"{name_of(event.stage)} …")
            self._status.start()
        elif event.stage not in ("failed", "stopped"):
            if event.state != "note":
                self.close()
            mark = {"done": "[green]✓[/]", "failed": "[red]✗[/]"}.get(event.state, "·")
            self._console.print(mark, describe(event), highlight=False)

    def close(self) -> None:
        """Take the spinner away."""
        if self._status:
            self._status.stop()
            self._status = None


def name_of(stage: str) -> str:
    """The stage in words."""
    return _NAMES.get(stage, stage)


def describe(event: Event) -> str:
    """One line: stage, what happened, how long it took."""
    seconds = f" ({event.seconds:.1f} s)" if event.seconds is not None else ""
    outcome = " failed" if event.state == "failed" else ""
    message = f": {event.message}" if event.message else ""
    return f"{name_of(event.stage)}{outcome}{message}{seconds}"
