"""A stranger's path: from a fresh clone to first predictions by curl, Python, command line and playground.

Nothing is typed that the root README does not say. The clone is of the last commit of this repository, in a folder of
its own; caches of pip and uv are empty unless `--cached` lends them this user's. What is installed on the machine
stays: Python, git, curl, chromium, and how pip finds its index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
from playwright.sync_api import Browser, sync_playwright

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.strangers.doors import LostError, Stranger
from scripts.benchmarks.strangers.instructions import README_URL, Instructions

T = TypeVar("T")

HELP = "from a fresh clone to first predictions by curl, Python, command line and playground"

BAR_S = 300.0
_PORT = 8000
_CACHES = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "XDG_CACHE_HOME")
_OURS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
_END_S = 20


@dataclass
class Walk:
    """How long each step took, told as it ends."""

    took_s: dict[str, float] = field(default_factory=dict)

    def step(self, name: str, do: Callable[[], T]) -> T:
        """Take one."""
        began = time.monotonic()
        found = do()
        self.took_s[name] = time.monotonic() - began
        print(f"{name:<40} {self.took_s[name]:7.1f} s", flush=True)
        return found

    @property
    def total_s(self) -> float:
        """The sum of all."""
        return sum(self.took_s.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `scripts/bench stranger`."""
    parser.add_argument(
        "--port", type=int, default=_PORT, help=f"if {_PORT}, which the README says, is taken"
    )
    parser.add_argument("--cached", action="store_true", help="let pip and uv use this user's caches")


def run(options: argparse.Namespace) -> int:
    """Print a line a step; 1 if they took too long, led elsewhere, or left a process behind."""
    folder = Path(tempfile.mkdtemp(prefix="fyre-stranger-"))
    root = folder / "FyreToolkit"
    environ = _environment(folder, options)
    walk, is_there = Walk(), False
    try:
        walk.step("git clone", lambda: _clone(root))
        instructions = Instructions.of((root / "README.md").read_text("utf-8"))
        stranger = Stranger(root, environ, instructions, README_URL.replace(str(_PORT), str(options.port)))
        try:
            _go(walk, stranger)
        finally:
            stranger.run(instructions.stop)
        is_there = True
    except LostError as error:
        print(f"lost: {error}", file=sys.stderr)
    finally:
        left = _end_processes(root)
        shutil.rmtree(folder, ignore_errors=True)
    return _judge(walk, left, is_there=is_there)


def _go(walk: Walk, stranger: Stranger) -> None:
    printed = walk.step("./scripts/up --detach", lambda: stranger.run(stranger.instructions.start))
    walk.step("first prediction by curl", lambda: stranger.predict_by_curl(printed))
    walk.step("first prediction by the Python client", stranger.predict_by_client)
    walk.step("first prediction by fyre predict", stranger.predict_by_command)

    def visit() -> None:
        with _browser() as browser:
            stranger.predict_by_browser(browser)

    walk.step("first prediction by the playground", visit)


def _judge(walk: Walk, left: list[str], *, is_there: bool) -> int:
    is_met = is_there and walk.total_s <= BAR_S and not left
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    print(f"{'all of it':<40} {walk.total_s:7.1f} s, bar {BAR_S:g} s: {'met' if is_met else 'missed'}")
    return int(not is_met)


def _clone(root: Path) -> None:
    """This repository as it was committed last."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT_ROOT), str(root)], check=True)
    if (head := _git(PROJECT_ROOT, "rev-parse", "HEAD")) != (cloned := _git(root, "rev-parse", "HEAD")):
        raise LostError(f"the clone has {cloned.strip()}, not {head.strip()}")
    if _git(PROJECT_ROOT, "status", "--porcelain"):
        print("What is not committed here is not in the clone.", file=sys.stderr)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout


def _environment(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """A shell that knows nothing of this checkout."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in _OURS and not name.startswith(("FYRE_", "RAY_"))
    }
    own = str(PROJECT_ROOT)
    environ["PATH"] = os.pathsep.join(
        part for part in environ["PATH"].split(os.pathsep) if not part.startswith(own)
    )
    if not options.cached:
        environ |= dict.fromkeys(_CACHES, str(folder / "cache"))
    if options.port != _PORT:
        environ |= {"FYRE_PORT": str(options.port), "FYRE_BASE_URL": f"http://localhost:{options.port}"}
    return environ


@contextmanager
def _browser() -> Iterator[Browser]:
    """The machine's chromium.

    Raises:
        LostError: there is none.
    """
    path = shutil.which("chromium")
    if path is None:
        raise LostError("there is no chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def _end_processes(root: Path) -> list[str]:
    """What still runs out of the clone, ended: nothing, if `down` did what it says."""
    found = [each for each in psutil.process_iter() if _runs_in(each, str(root))]
    lines = [f"{each.pid} {_described(each)}" for each in found]
    for each in found:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(found, timeout=_END_S)
    return lines


def _runs_in(process: psutil.Process, root: str) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        places: list[str] = [process.exe(), process.cwd(), *process.cmdline()]
        return process.pid != os.getpid() and any(root in place for place in places)
    return False


def _described(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())[:200]
    return "which has ended since"
