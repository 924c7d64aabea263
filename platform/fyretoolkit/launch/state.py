"""The state file of a copy: what runs, since when, and how far a start is. Written by the supervisor alone.

`down` and a second `up` trust the pid in it only together with the process's start time and the boot it
belongs to: pids are used again.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, is_running

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class RunState:
    """One run of a copy, from `up` to `down`."""

    run_id: str
    pid: int
    start_ticks: int
    boot: str
    port: int
    mode: str
    runtime_dir: str
    dashboard_url: str = ""
    ray_address: str = ""
    host: str = LOOPBACK
    """Where the API listens, besides loopback."""
    public_url: str = ""
    """Where callers reach it, if that was said."""
    status: str = "starting"
    """`starting`, `ready`, `restarting`, `stopping`, `stopped` or `failed`."""
    message: str = ""
    started_at: float = 0.0
    ready_at: float | None = None
    ray_restarts: int = 0
    redis_restarts: int = 0
    schema: int = SCHEMA

    @property
    def url(self) -> str:
        """Where the API answers on this machine."""
        return f"http://localhost:{self.port}"

    def is_alive(self) -> bool:
        """Whether this run's supervisor still runs."""
        return self.boot == boot_id() and is_running(self.pid, self.start_ticks)

    def with_changes(self, **changes: Any) -> RunState:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def read_state(home: Home) -> RunState | None:
    """The last run of this home; `None` if there was none, or none that this version understands."""
    try:
        fields = json.loads(home.state_file.read_bytes())
        return RunState(**fields) if fields.get("schema") == SCHEMA else None
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def write_state(home: Home, state: RunState) -> None:
    """Replace the state file in one step."""
    _replace_file(home.state_file, json.dumps(asdict(state), indent=1).encode())


def _replace_file(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(path)


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a start, for whoever watches it. `state`: `start`, `done`, `failed` or `note`."""

    stage: str
    state: str
    message: str = ""
    seconds: float | None = None
    log: str | None = None


class EventLog:
    """Appends events to a home's events file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")

    def append(self, event: Event) -> None:
        """Add one event with the time."""
        line = json.dumps({"at": round(time.time(), 3), **asdict(event)}) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)


class LineTail:
    """Reads the whole lines that were appended to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """The lines since the last call; a line that is still being written waits for the next one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._offset += len(whole) + len(newline)
        return whole.decode("utf-8", errors="replace").splitlines() if newline else []


def parse_event(line: str) -> Event | None:
    """The event of a line written by `EventLog`; `None` for anything else."""
    try:
        fields = json.loads(line)
        fields.pop("at", None)
        return Event(**fields)
    except (ValueError, TypeError, AttributeError):
        return None
