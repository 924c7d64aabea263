"""`fyre env` exports what reaches one running copy, and no secret that a shell did not have."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import RunState, write_state
from fyretoolkit.settings import DEMO_KEY


def running(home: Path, mode: str = "development") -> None:
    """The state of a platform whose supervisor is this process, and its token."""
    Home(home).prepare()
    Home(home).token_file.write_text("a secret", "utf-8")
    own = read_process(os.getpid())
    assert own is not None
    state = RunState("run", own.pid, own.start_ticks, boot_id(), 8123, mode, "/tmp/x", status="ready")
    write_state(
        Home(home),
        state.with_changes(dashboard_url="http://127.0.0.1:8265", ray_address="127.0.0.1:6379"),
    )


def test_a_shell_takes_it(tmp_path: Path) -> None:
    """Whatever the home is called: it is quoted."""
    home = tmp_path / "a home's $(echo name)"
    running(home)
    result = CliRunner().invoke(app, ["env", "--home", str(home)])
    assert result.exit_code == 0, result.output
    shown = subprocess.run(
        ["sh", "-c", f"{result.stdout}\nenv"], env={}, capture_output=True, text=True, check=True
    )
    found = dict(
        line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith(("RAY_", "FYRE_"))
    )
    assert found == {
        "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265",
        "RAY_ADDRESS": "127.0.0.1:6379",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "run" / "ray_token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "FYRE_BASE_URL": "http://localhost:8123",
        "FYRE_API_KEY": DEMO_KEY,
    }
    assert Path(found["RAY_AUTH_TOKEN_PATH"]).read_text("utf-8") == "a secret"


def test_production_has_no_key_to_give(tmp_path: Path) -> None:
    """It says so where `eval` does not read."""
    running(tmp_path, "production")
    result = CliRunner().invoke(app, ["env", "--home", str(tmp_path), "--json"])
    assert "FYRE_API_KEY" not in json.loads(result.stdout)
    assert "FYRE_API_KEY" in result.stderr


@pytest.mark.parametrize("home", ["/nowhere", "/etc/hostname"])
def test_without_a_platform_nothing_is_exported(home: str) -> None:
    """`eval` of nothing, one sentence on stderr and an exit code."""
    result = CliRunner().invoke(app, ["env", "--home", home])
    assert result.exit_code in (1, 3)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
