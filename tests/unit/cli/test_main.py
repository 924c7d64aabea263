"""`fyre` as a whole: its help, its completion, and how it ends."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from tests.support.fyre_command import program, program_environment


def _commands(group: Any, path: str = "fyre") -> dict[str, Any]:
    found = {path: group}
    for name, command in getattr(group, "commands", {}).items():
        found |= _commands(command, f"{path} {name}")
    return found


COMMANDS = _commands(typer.main.get_command(app))


def test_every_command_explains_itself() -> None:
    """What it does, and each of its options and arguments."""
    assert len(COMMANDS) > 45
    silent = [path for path, command in COMMANDS.items() if not command.help]
    silent += [
        f"{path} {parameter.name}"
        for path, command in COMMANDS.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


@pytest.mark.parametrize("path", ["fyre", "fyre jobs", "fyre batch run"])
def test_help_is_shown(path: str) -> None:
    result = CliRunner().invoke(app, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("fyre jo", ["jobs"]), ("fyre deployments pr", ["promote"]), ("fyre metrics --period ", ["24h", "5m"])],
)
def test_a_shell_completes_commands_and_values(typed: str, offered: list[str]) -> None:
    """As the script does that --install-completion writes."""
    environment = {
        "_FYRE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="fyre")
    assert set(offered) <= set(result.stdout.split()), result.output


def test_a_reader_that_has_enough_is_no_error() -> None:
    """`fyre --help | head -1` has no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            program("--help"),
            stdout=writing,
            stderr=subprocess.PIPE,
            env=program_environment(),
            check=False,
        )
    finally:
        os.close(writing)
    assert b"Traceback" not in done.stderr


def test_a_typing_error_is_misuse() -> None:
    """And says what is near."""
    result = CliRunner().invoke(app, ["job", "list"])
    assert result.exit_code == 2
    assert "jobs" in result.stderr
