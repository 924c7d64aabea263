"""Other servers of the same model, each in a process group of its own on a free port.

Packages that are not ours are installed into environments of their own in the user's cache, at the versions named here.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.comparison.workloads import Workload
from scripts.benchmarks.load import Target
from tests.support.platform import free_port

_APPS = PROJECT_ROOT / "scripts" / "benchmarks" / "peers"
_END_S = 10.0
_INSTALL_S = 600

Command = Callable[[str, int, Path], list[str]]


class UnavailableError(Exception):
    """The system cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How one of them is installed, started and asked."""

    title: str
    command: Command  # from its Python, its port and a folder for its files
    distribution: str  # whose version is quoted
    packages: Sequence[str] = ()  # none: our own environment has it
    path: str = "/predict"


def _app(name: str) -> str:
    return str(_APPS / f"{name}.py")


PEERS = {
    "ray-serve": Peer(
        "Ray Serve, textbook",
        lambda python, port, folder: [python, _app("ray_serve_app"), str(port), str(folder / "ray")],
        "ray",
    ),
    "fastapi": Peer(
        "FastAPI, one process",
        lambda python, port, _: [
            *(python, "-m", "uvicorn", "--app-dir", str(_APPS), "fastapi_app:app"),
            *("--port", str(port), "--log-level", "warning", "--no-access-log"),
        ],
        "fastapi",
    ),
    "mosec": Peer(
        "mosec",
        lambda python, port, _: [
            *(python, _app("mosec_app"), "--port", str(port), "--address", "127.0.0.1"),
            *("--log-level", "error"),
        ],
        "mosec",
        ("mosec==0.9.8",),
        path="/inference",
    ),
    "litserve": Peer(
        "LitServe",
        lambda python, port, _: [python, _app("litserve_app"), str(port)],
        "litserve",
        ("litserve==0.2.19",),
    ),
    "bentoml": Peer(
        "BentoML",
        lambda python, port, _: [
            *(python, "-m", "bentoml", "serve", "bentoml_app:Service", "--working-dir", str(_APPS)),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "bentoml",
        ("bentoml==1.4.39",),
    ),
}


class PeerSystem:
    """One of them; `start` and `stop` for each workload."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._peer = PEERS[name]
        self.title = self._peer.title
        self._python = ""
        self._scratch: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """Of what is served with, for the description of the run."""
        pinned = [package for package in self._peer.packages if package.startswith(self._peer.distribution)]
        found = pinned[0].partition("==")[2] if pinned else version(self._peer.distribution)
        return f"{self._peer.distribution} {found}"

    def open(self) -> None:
        """Install what it needs.

        Raises:
            UnavailableError: its packages cannot be installed.
        """
        self.close()
        self._scratch = Path(tempfile.mkdtemp(prefix="fb-"))  # short: Ray's sockets lie in it
        self._python = _environment(self.name, self._peer.packages) if self._peer.packages else sys.executable

    def start(self, workload: Workload) -> Target:
        """Begin to serve a workload; it is ready when it answers."""
        port = free_port()
        self.log.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._peer.command(self._python, port, self._folder),
                env=_environ(workload, self._folder),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Target("127.0.0.1", port, self._peer.path, {}, workload.bodies)

    @property
    def _folder(self) -> Path:
        assert self._scratch is not None, "open it first"
        return self._scratch

    @property
    def log(self) -> Path:
        """What it printed."""
        return self._folder / "log"

    def has_ended(self) -> bool:
        """It is not running (any more)."""
        return self._process is None or self._process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """The one that was started, first, and all below it."""
        with suppress(psutil.NoSuchProcess):
            if self._process is not None:
                whole = psutil.Process(self._process.pid)
                return [whole, *whole.children(recursive=True)]
        return []

    def stop(self) -> None:
        """End every process of it."""
        if self._process is None:
            return
        family = self.processes()
        self._process.terminate()
        psutil.wait_procs(family, timeout=_END_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Ray gives some of its processes groups of their own; psutil knows a process from a later one with its id.
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family, timeout=_END_S)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Remove its files; nothing is kept running between workloads."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def _environ(workload: Workload, folder: Path) -> dict[str, str]:
    """Ours without what steers our own platform, so that each peer runs with its own defaults."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "FYRE_", "SERVE_", "PYTHON"))
    }
    return {
        **kept,
        "BENCH_MODEL": str(workload.graph),
        "BENCH_DTYPE": workload.dtype,
        "PYTHONPATH": str(_APPS),  # Ray's workers import the model from there
        "TMPDIR": str(folder),
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "BENTOML_DO_NOT_TRACK": "1",
        # Else Ray would write one into the home of whoever runs this.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _environment(name: str, packages: Sequence[str]) -> str:
    """The Python of an environment with these packages and our version of ONNX Runtime, made the first time."""
    wanted = [*packages, f"onnxruntime=={_onnxruntime_version()}", f"numpy=={version('numpy')}"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fyre-bench"
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {', '.join(wanted)} into {folder} …", flush=True)
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), *wanted)
        done.touch()
    return str(python)


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "--no-progress", "--quiet", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"installing took more than {_INSTALL_S} s") from None
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300] or f"uv ended with {done.returncode}"
        raise UnavailableError(f"it cannot be installed: {reason}")


def _onnxruntime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
