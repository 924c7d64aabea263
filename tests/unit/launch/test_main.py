"""What an operator reads: one sentence for each thing that is wrong, and next steps that can be typed as they are."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fyretoolkit.launch import commands, paths, preflight, processes
from fyretoolkit.launch.__main__ import main
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import PROJECT_ROOT, Home, prepare_runtime_dir, script_for
from fyretoolkit.launch.state import RunState


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that does not start says."""
    assert main(list(arguments)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_home_that_is_a_file_is_one_sentence(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """It was a traceback with NotADirectoryError."""
    said = refusal(capsys, command, "--home", "/etc/hostname")
    assert said.startswith("Cannot use /etc/hostname")
    assert said.endswith("Not a directory. Choose another folder with --home.\n")


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_home_with_a_name_too_long_is_one_sentence(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """255 bytes are allowed."""
    assert "File name too long" in refusal(capsys, command, "--home", "/tmp/" + "a" * 300)


def test_another_users_home_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode 0700: not even its state can be read."""

    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "run/state.json: Permission denied. Choose" in refusal(capsys, "down", "--home", "/home/other")


def test_the_home_of_nobody_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """`~name` of a user who does not exist."""
    assert "no user of the name in ~nosuch/x" in refusal(capsys, "down", "--home", "~nosuch/x")


def test_a_port_in_the_environment_that_is_no_number_matters_to_up_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`down` has no port, and ended with a ValueError."""
    monkeypatch.setenv("FYRE_PORT", "abc")
    assert main(["down", "--home", str(tmp_path / "none")]) == 0
    with pytest.raises(SystemExit):
        main(["up", "--home", str(tmp_path / "none")])
    assert "'abc' is no port number (--port or FYRE_PORT)" in capsys.readouterr().err


def test_a_mode_that_does_not_exist_is_named_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was found after Redis and Ray had started."""
    monkeypatch.setenv("FYRE_MODE", "prod")
    said = refusal(capsys, "up", "--home", str(tmp_path / "home"))
    assert said.startswith("FYRE_MODE: Input should be 'development' or 'production'.")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limits: {max_inputs: 0}", "limits.max_inputs: Input should be greater than 0"),
        ("limit: {}", "limit: Extra inputs are not permitted"),
        ("limits: [", "is not a YAML mapping: while parsing"),
        ("- a", "is not a YAML mapping"),
    ],
)
def test_a_mistake_in_the_configuration_names_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    """Before anything starts."""
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    with pytest.raises(LaunchError) as caught:
        preflight.check_settings({"FYRE_CONFIG": str(path)})
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("free: {read: 0, write: 1, inference: 1}", "free.read: Input should be greater than 0"),
        ("pro: {read: 1, write: 1, inference: null}", "The plans file lacks free and development."),
    ],
)
def test_a_mistake_in_the_plans_is_named(tmp_path: Path, text: str, says: str) -> None:
    """Before anything starts: new organizations need `free`, the demo key `development`."""
    path = tmp_path / "plans.yaml"
    path.write_text(text)
    with pytest.raises(LaunchError) as caught:
        preflight.check_settings({"FYRE_PLANS": str(path)})
    assert says in str(caught.value)


def test_a_configuration_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """FYRE_CONFIG names it; the delivered one passes."""
    with pytest.raises(LaunchError, match=r"Cannot read .*none\.yaml: No such file"):
        preflight.check_settings({"FYRE_CONFIG": str(tmp_path / "none.yaml")})
    preflight.check_settings({})


def test_a_relative_configuration_is_the_same_file_for_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The supervisor works in another folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FYRE_CONFIG", "my.yaml")
    options = commands.UpOptions(tmp_path, 8000, "development", is_detached=True, has_demo=True)
    assert commands._environment(options)["FYRE_CONFIG"] == str(tmp_path / "my.yaml")


def test_a_privileged_port_is_not_said_to_be_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells the two apart."""
    monkeypatch.setattr(preflight, "bind_error", lambda *_: errno.EACCES)
    with pytest.raises(
        LaunchError, match="Port 80 may only be bound by root: use --port with a number from 1024"
    ):
        preflight.check_port(80)


def test_a_process_that_may_not_be_looked_at_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc mounted with hidepid refuses other users' processes."""

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "read_text", denied)
    assert processes.read_process(1) is None


@pytest.mark.parametrize("is_link", [False, True])
def test_something_planted_in_the_place_of_the_runtime_folder_is_one_sentence(
    tmp_path: Path, is_link: bool
) -> None:
    """A file, or a link that leads nowhere: /tmp is everybody's."""
    planted = tmp_path / "runtime"
    if is_link:
        planted.symlink_to(tmp_path / "nowhere")
    else:
        planted.write_text("")
    with pytest.raises(LaunchError, match="not a private folder"):
        prepare_runtime_dir(planted)


def test_output_into_a_pipe_that_is_closed_ends_quietly(tmp_path: Path) -> None:
    """`scripts/up | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fyretoolkit.launch", "down", f"--home={tmp_path / 'none'}"],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_default_home_needs_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless FYRE_HOME would lead elsewhere."""
    monkeypatch.delenv("FYRE_HOME", raising=False)
    assert script_for("down", paths.DEFAULT_HOME) == shlex.quote(str(PROJECT_ROOT / "scripts" / "down"))
    monkeypatch.setenv("FYRE_HOME", "/elsewhere")
    assert "--home" in script_for("down", paths.DEFAULT_HOME)


def test_every_next_step_acts_on_this_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy in another home was told to type `scripts/down`, which stops the default one."""
    home = Home(tmp_path / "my home's")
    home.prepare()
    ours = f"--home {shlex.quote(str(home.root))}"
    state = RunState("run", 1, 1, "boot", 8000, "development", "/tmp/x")
    shown = commands.summary(home, state, has_demo=True)
    assert f"{PROJECT_ROOT / 'scripts' / 'down'} {ours}" in shown
    assert f"cat {shlex.quote(str(home.token_file))}" in shown
    assert str(home.prometheus_targets) in shown
    commands.down(home, is_purged=False)
    assert capsys.readouterr().out.count(ours) == 2
