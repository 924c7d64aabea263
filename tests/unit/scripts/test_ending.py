"""A benchmark or trial that is ended ends what it started: its platform in order, its load generators with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.platform import until

_ROOT = Path(__file__).resolve().parents[3]

_RUN = textwrap.dedent(
    """
    import sys, time
    from contextlib import contextmanager
    from pathlib import Path
    from types import SimpleNamespace

    from scripts.{package} import __main__ as command
    from scripts.benchmarks.load import Target, start_closed_loop

    @contextmanager
    def platform():
        try:
            yield
        finally:
            time.sleep(0.3)  # ending takes its time: a second signal comes meanwhile
            Path({folder!r}, "platform-ended").touch()

    def run(options):
        with platform():
            target = Target("127.0.0.1", {port}, "/", {{}}, [])
            load = start_closed_loop(target, connections=1, seconds=600)
            Path({folder!r}, "load.pid").write_text(str(load._process.pid))
            if {fails}:
                raise ValueError("the trial itself fails")
            load.report()
        return 0

    probe = SimpleNamespace(HELP="", add_options=lambda parser: None, run=run)
    command.{table}["probe"] = probe
    sys.exit(command.main(["probe"]))
    """
)
_COMMANDS = {"benchmarks": "BENCHMARKS", "trials": "TRIALS"}


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _begin(
    folder: Path, port: int, *, package: str = "benchmarks", fails: bool = False
) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A command that makes load within a `with` block; the process and its generator's."""
    code = _RUN.format(package=package, table=_COMMANDS[package], folder=str(folder), port=port, fails=fails)
    environ = {**os.environ, "PYTHONPATH": f"{_ROOT}/platform:{_ROOT}"}
    running = subprocess.Popen([sys.executable, "-c", code], cwd=_ROOT, env=environ, stderr=subprocess.PIPE)
    pid = until(lambda: _read(folder / "load.pid"), timeout_s=240, what="the generator")
    return running, psutil.Process(int(pid))


def _read(path: Path) -> str | None:
    return (path.exists() and path.read_text("ascii")) or None


def _has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("package", _COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_platform_and_the_load(
    tmp_path: Path, port: int, package: str, number: signal.Signals
) -> None:
    """What a `with` block holds is closed, a second signal does not break that off, and no generator stays."""
    running, generator = _begin(tmp_path, port, package=package)
    running.send_signal(number)
    running.send_signal(number)
    running.communicate(timeout=240)
    assert running.returncode == 128 + number
    assert (tmp_path / "platform-ended").exists()
    until(lambda: _has_ended(generator), timeout_s=60, what="the generator's end")


def test_an_exception_ends_the_platform_and_the_load(tmp_path: Path, port: int) -> None:
    """A benchmark that fails leaves as little behind."""
    running, generator = _begin(tmp_path, port, fails=True)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 1
    assert b"the trial itself fails" in errors
    assert (tmp_path / "platform-ended").exists()
    until(lambda: _has_ended(generator), timeout_s=60, what="the generator's end")


def test_a_generator_dies_with_a_parent_that_was_killed(tmp_path: Path, port: int) -> None:
    """`kill -9` lets the parent do nothing more: the kernel ends the generator."""
    running, generator = _begin(tmp_path, port)
    running.kill()
    running.communicate()
    until(lambda: _has_ended(generator), timeout_s=60, what="the generator's end")


def test_a_generator_whose_parent_died_first_makes_no_load() -> None:
    """It was adopted before it could ask to die with its parent: it looks who its parent is."""
    stranger = psutil.Process().ppid()
    command = [sys.executable, "-m", "scripts.benchmarks.load_process", str(stranger)]
    environ = {**os.environ, "PYTHONPATH": f"{_ROOT}/platform:{_ROOT}"}
    ended = subprocess.run(command, cwd=_ROOT, env=environ, input=b"no job", capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
