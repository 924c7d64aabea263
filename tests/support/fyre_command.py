"""The `fyre` command as tests run it: in this process, as a program, and as a program on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from click.testing import Result
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from tests.support.api_bench import Bench

_PROGRAM = (
    "import signal\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who runs the tests may ignore it, and so would this
    "from fyretoolkit.client import retries\n"
    "retries.POLL_FIRST_S, retries.POLL_MAX_S = 0.01, 0.05\n"
    "from fyretoolkit.cli import metrics\n"
    "metrics.WATCH_S = 0.05\n"
    "from fyretoolkit.cli.main import main\n"
    "main()\n"
)
"""`fyre`, but looking at jobs and metrics more often."""
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Fyre:
    """The command, with the platform that it talks to. The platform runs in another thread."""

    url: str
    bench: Bench
    portal: BlockingPortal

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run `fyre …`; stdout and stderr apart."""
        return CliRunner().invoke(app, arguments, input=stdin)

    def done(self, *arguments: str, stdin: str | None = None) -> str:
        """What a command that succeeds prints."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, (result.stdout, result.stderr, result.exception)
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """What `fyre … --json` prints."""
        return json.loads(self.done(*arguments, "--json"))

    def keys(self, *arguments: str) -> Result:
        """Run `fyre keys …`."""
        return self.run("keys", *arguments)

    def opens(self, key: str) -> bool:
        """Whether the platform takes a key."""
        return httpx.get(f"{self.url}/models", auth=(key, ""), trust_env=False).status_code == 200

    def act(self, function: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """Something that the platform does, done in its loop."""
        return self.portal.call(partial(function, *arguments, **options))

    def soon(self, function: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Future[Any]:
        """The same, beside what the test does meanwhile."""
        return self.portal.start_task_soon(partial(function, *arguments, **options))


def program(*arguments: str) -> list[str]:
    """The command line of `fyre` as a program of its own."""
    return [sys.executable, "-c", _PROGRAM, *arguments]


def program_environment(**variables: str) -> dict[str, str]:
    """Where it finds what this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}


@dataclass
class Terminal:
    """A program whose stderr is a terminal, and its stdout too unless that is a pipe."""

    process: subprocess.Popen[bytes]
    screen: int
    shown: bytearray = field(default_factory=bytearray)

    def read_until(self, text: str) -> None:
        """Waits until the terminal shows something; fails when the program ends before."""
        deadline = time.monotonic() + _TIMEOUT_S
        while text.encode() not in self.shown:
            assert self._read(), f"it ended without {text!r}: {self.shown.decode()}"
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown.decode()}"

    def wait(self) -> int:
        """The exit code, after all was read."""
        while self._read():
            pass
        return self.process.wait(_TIMEOUT_S)

    def _read(self) -> bool:
        """Takes what comes; False at the end."""
        readable, _, _ = select.select([self.screen], [], [], 0.1)
        if readable:
            with suppress(OSError):  # Linux tells the end of a terminal as an error
                if block := os.read(self.screen, 65_536):
                    self.shown += block
                    return True
            return False
        return self.process.poll() is None


@contextmanager
def on_terminal(*arguments: str, folder: Path, stdout: int | None = None) -> Iterator[Terminal]:
    """`fyre …` on a terminal of 100 columns; `stdout`: another place for that."""
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        program(*arguments),
        stdin=terminal,
        stdout=terminal if stdout is None else stdout,
        stderr=terminal,
        cwd=folder,
        env=program_environment(TERM="xterm-256color", COLUMNS="100", LINES="30"),
    )
    os.close(terminal)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
