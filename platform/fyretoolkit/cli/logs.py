"""`fyre logs`: what the parts of this machine's platform wrote."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fyretoolkit.cli.calls import INTERRUPTED, MISUSED, REFUSED, end
from fyretoolkit.cli.log_files import PARTS, Line, LogReader, about, find_logs, in_order
from fyretoolkit.cli.output import print_table, printable, say
from fyretoolkit.cli.platform import HomeOption, home_of, read_running, refusal

_POLL_S = 0.3
_FIND_S = 2.0
"""New processes are looked for more seldom than new lines: for that, files are read."""


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            help=f"One of {', '.join(PARTS)}; the id of a deployment (dep_…), for its replicas; or of a job (job_…), "
            "for the lines that name it. Left out: says which logs there are."
        ),
    ] = None,
    home: HomeOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="So many of the newest.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the logs of the platform of this machine."""
    folder = home_of(home)
    if part is None:
        _list(folder)
        return
    if part not in PARTS and not part.startswith(("dep_", "job_")):
        end(
            MISUSED,
            f"There is no part {part!r}: use one of {', '.join(PARTS)}, or the id of a deployment or job.",
        )
    view = _View(folder, part)
    found = view.new_lines()
    if not view.has_files and not follow:
        why = (
            ""
            if read_running(folder)
            else " Nothing runs: only supervisor, redis, ray and bootstrap are kept."
        )
        end(REFUSED, f"There is no log of {part} in {folder}.{why}")
    view.show(found[-lines:])
    if not found and not follow:
        say(f"{part} has written nothing.")
    try:
        while follow:
            time.sleep(_POLL_S)
            view.show(view.new_lines())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


class _View:
    """The logs of one part, those that come later too."""

    def __init__(self, home: Path, part: str) -> None:
        self._home = home
        self._part = part
        self._readers: dict[Path, LogReader] = {}
        self._labels: set[str] = set()
        self._found_at = float("-inf")

    @property
    def has_files(self) -> bool:
        """Whether there is any log of it."""
        return bool(self._readers)

    def new_lines(self) -> list[Line]:
        """What was written since the last time, by whichever process."""
        if time.monotonic() - self._found_at >= _FIND_S:
            for path, label in _find(self._home, self._part).items():
                self._readers.setdefault(path, LogReader(path, label))
                self._labels.add(label)
            self._found_at = time.monotonic()
        word = self._part if self._part.startswith("job_") else ""
        return in_order(line for reader in self._readers.values() for line in about(reader.new_lines(), word))

    def show(self, lines: Iterable[Line]) -> None:
        """Prints them, each with its process if there are several."""
        is_labeled = len(self._labels) > 1
        for line in lines:
            text = printable(line.text)
            typer.echo(f"{line.label} | {text}" if is_labeled else text)


def _find(home: Path, part: str) -> dict[Path, str]:
    try:
        state = read_running(home)
        session = Path(state["runtime_dir"]) / "ray" / "session_latest" / "logs" if state else None
        return find_logs(home, session, part)
    except OSError as error:
        raise refusal(f"Cannot read {error.filename}: {error.strerror}.") from error


def _list(home: Path) -> None:
    rows = [(part, str(len(_find(home, part))), what) for part, what in PARTS.items()]
    rows += [("dep_…", "", "a deployment's replicas"), ("job_…", "", "the lines that name a job")]
    print_table(("part", "files", "what"), rows)
