"""`fyre status` tells what is so, and the CLI stays light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli import platform
from fyretoolkit.cli.main import app
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import RunState, write_state

ANSWERS: dict[str, object] = {"status": "ready", "checks": {"redis": "ok"}}


class Ready(BaseHTTPRequestHandler):
    """A platform that answers /readyz."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(ANSWERS).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing is written."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of an API that is ready."""
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def write(home: Path, port: int, *, start_ticks: int | None = None) -> None:
    """The state of a platform whose supervisor is this process."""
    Home(home).prepare()
    own = read_process(os.getpid())
    assert own is not None
    ticks = own.start_ticks if start_ticks is None else start_ticks
    write_state(
        Home(home), RunState("run", own.pid, ticks, boot_id(), port, "development", "/tmp/x", status="ready")
    )


def status(home: Path) -> tuple[int, dict[str, object]]:
    """Exit code and answer of `fyre status --json`."""
    result = CliRunner().invoke(app, ["status", "--home", str(home), "--json"])
    return result.exit_code, json.loads(result.output)


def test_a_platform_that_answers_is_ready(tmp_path: Path, port: int) -> None:
    """Exit code 0, with what /readyz said."""
    write(tmp_path, port)
    code, found = status(tmp_path)
    assert code == 0
    assert (found["status"], found["is_ready"]) == ("ready", True)
    assert found["readyz"] == {"status_code": 200, "body": ANSWERS}


def test_a_platform_that_does_not_answer_is_not_ready(tmp_path: Path, port: int) -> None:
    """The supervisor runs; nobody is at the port beyond it."""
    write(tmp_path, 1)
    code, found = status(tmp_path)
    assert code == 1
    assert (found["status"], found["is_ready"], found["url"]) == ("ready", False, "http://localhost:1")


def test_a_reused_pid_is_not_a_running_platform(tmp_path: Path, port: int) -> None:
    """The process of that pid started at another time."""
    write(tmp_path, port, start_ticks=1)
    assert status(tmp_path)[1]["status"] == "stopped"


def test_without_a_home_it_is_stopped(tmp_path: Path) -> None:
    """Nothing was ever started; the table for people says so too."""
    assert status(tmp_path)[1]["status"] == "stopped"
    result = CliRunner().invoke(app, ["status", "--home", str(tmp_path)])
    assert "stopped" in result.output


def test_this_machine_is_not_asked_through_a_proxy(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's proxy for the internet knows no localhost."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    write(tmp_path, port)
    assert status(tmp_path)[0] == 0


@pytest.mark.parametrize("home", ["/etc/hostname", "/tmp/" + "a" * 300, "~nosuch/x"])
def test_a_home_that_cannot_be_one_is_one_sentence(home: str) -> None:
    """It was a traceback."""
    result = CliRunner().invoke(app, ["status", "--home", home])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert result.stderr.endswith("Choose another folder with --home.\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "launched"),
    [
        ("up --detach", "up --home=/h --port=8000 --mode=development --detach"),
        (
            "up --mode production --host 0.0.0.0 --tls-terminated --public-url https://a.example --port 1 --no-demo",
            "up --home=/h --port=1 --mode=production --host=0.0.0.0 --public-url=https://a.example --no-demo "
            "--tls-terminated",
        ),
        ("down --purge", "down --home=/h --purge"),
        ("keys bootstrap", "admin-key --home=/h"),
    ],
)
def test_the_launcher_is_told_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, typed: str, launched: str
) -> None:
    """What was left out is left to the environment."""
    told: list[str] = []
    monkeypatch.setattr(platform, "_launch", lambda *arguments: told.extend(arguments))
    for name in ("FYRE_HOST", "FYRE_PORT", "FYRE_MODE", "FYRE_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, [*typed.split(), "--home", "/h"])
    assert result.exit_code == 0, result.output
    assert told == launched.split()


@pytest.mark.parametrize("module", ["fyretoolkit", "fyretoolkit.cli.main"])
def test_the_light_parts_load_nothing_heavy(module: str) -> None:
    """Neither Ray, nor ONNX Runtime, nor the platform's own dependencies."""
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


HEAVY = (
    "ray",
    "onnxruntime",
    "numpy",
    "fastapi",
    "redis",
    "pyarrow",
    "fyretoolkit.launch",
    "fyretoolkit.settings",
)
