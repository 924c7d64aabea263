"""Where the logs of one copy lie, by the part of the platform that wrote them, and their lines in the order of time.

What the supervisor starts (itself, Redis, Ray's head, the bootstrap) writes into the home and stays there after `down`.
Everything else is a process of Ray's: it writes into the folder of Ray's session, which ends with the run. Ray names
those files by worker and process, and writes the actor's class into their first lines, by which they are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = {
    "supervisor": "starts everything, and starts again what ended",
    "redis": "the platform's own Redis",
    "ray": "Ray's head",
    "bootstrap": "fills the cluster at each start",
    "serve": "Ray Serve's controller and proxy",
    "ingress": "the HTTP API",
    "controller": "reconciles deployments and jobs",
    "webhooks": "sends webhooks",
    "runners": "run batch jobs",
}
"""By name: who writes there. Besides there are deployments (`dep_…`) and jobs (`job_…`)."""
_OF_HOME = ("supervisor", "redis", "ray", "bootstrap")
_ACTORS = {
    "ingress": ("ServeReplica:ingress:",),
    "controller": ("ControllerActor",),
    "webhooks": ("WebhookActor",),
    "runners": ("RunnerActor", "StandbyRunner"),
}
_OF_SERVE = {"serve": ("controller_*.log", "proxy_*.log"), "ingress": ("replica_ingress_*.log",)}
_OF_JOBS = ("controller", "webhooks", "runners")
_ACTOR = re.compile(rb"^:actor_name:(.+)$", re.MULTILINE)
_REPLICA = re.compile(r"ServeReplica:([^:]+):")
_HEADER = re.compile(r":(job_id|actor_name|task_name):")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)?")
_HEAD_BYTES, _TAIL_BYTES = 512, 1 << 20
_STAMP_CHARS = 48
"""A line's time stands within so many characters, or the line belongs to the one before it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log."""

    stamp: str
    """The time that it or a line before it tells; empty: none."""
    label: str
    """Which process wrote it."""
    text: str


class LogReader:
    """The lines of one file, from so far before its end on."""

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label
        self._offset: int | None = None
        self._stamp = ""

    def new_lines(self) -> list[Line]:
        """At first the last megabyte, then what was written since; a line that is being written waits."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, 2)
                start = self._start(end)
                file.seek(start)
                whole, newline, _ = file.read(end - start).rpartition(b"\n")
        except FileNotFoundError:
            return []
        is_cut = self._offset is None and start > 0
        self._offset = start + len(whole) + len(newline)
        texts = whole.decode("utf-8", errors="replace").split("\n") if newline else []
        return [self._line(text) for text in texts[int(is_cut) :] if not _HEADER.match(text)]

    def _start(self, end: int) -> int:
        if self._offset is None:
            return max(0, end - _TAIL_BYTES)
        return self._offset if self._offset <= end else 0  # it was replaced by a new one

    def _line(self, text: str) -> Line:
        found = _STAMP.search(text[:_STAMP_CHARS])
        self._stamp = found[0] if found else self._stamp
        return Line(self._stamp, self._label, text)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Lines of several files by their time; those of one second, and those without, stay together."""
    return sorted(lines, key=lambda line: line.stamp)


def about(lines: Iterable[Line], word: str) -> Iterator[Line]:
    """The lines that name something, each with those that go on from it (a traceback)."""
    is_about = False
    for line in lines:
        if _STAMP.search(line.text[:_STAMP_CHARS]):
            is_about = word in line.text
        if is_about or word in line.text:
            yield line


def find_logs(home: Path, session: Path | None, part: str) -> dict[Path, str]:
    """The files of a part and what their writers are called. `session`: Ray's folder of logs, None: nothing runs."""
    if part in _OF_HOME:
        return {path: part for path in [home / "run" / f"{part}.log"] if path.exists()}
    if session is None:
        return {}
    if part.startswith("dep_"):
        return _of_deployment(session, part)
    if part.startswith("job_"):
        return {path: label for name in _OF_JOBS for path, label in _of_part(session, name).items()}
    return _of_part(session, part)


def _of_part(session: Path, part: str) -> dict[Path, str]:
    found = {
        path: f"{actor.split(':')[0]} {_process(path)}"
        for path, actor in _workers(session)
        if actor.startswith(_ACTORS.get(part, ()))
    }
    for pattern in _OF_SERVE.get(part, ()):
        found |= {path: path.stem for path in sorted((session / "serve").glob(pattern))}
    return found


def _of_deployment(session: Path, deployment: str) -> dict[Path, str]:
    """Of each application that serves it: its own, or one that stood by and says in its log whom it serves now."""
    found: dict[Path, str] = {}
    for path, actor in _workers(session):
        replica = _REPLICA.match(actor)
        if replica and (replica[1] == deployment or _says(path, f" {deployment} runs on ")):
            found[path] = f"replica {_process(path)}"
            found |= {log: log.stem for log in (session / "serve").glob(f"replica_{replica[1]}_*.log")}
    found |= {log: log.stem for log in (session / "serve").glob(f"replica_{deployment}_*.log")}
    return found


def _workers(session: Path) -> Iterator[tuple[Path, str]]:
    """What Ray's workers wrote, with the class of the actor that each one is."""
    for path in sorted((*session.glob("worker-*.err"), *session.glob("worker-*.out"))):
        with path.open("rb") as file:
            found = _ACTOR.search(file.read(_HEAD_BYTES))
        if found:
            yield path, found[1].decode("utf-8", errors="replace")


def _process(path: Path) -> str:
    """`worker-<worker>-<job>-<pid>.err`: its process."""
    return path.stem.rpartition("-")[2]


def _says(path: Path, sentence: str) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return any(sentence in line for line in file)
