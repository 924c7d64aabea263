"""Refusals before a start, the environment of a copy, its folders and its state file."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from fyretoolkit.launch import preflight
from fyretoolkit.launch.children import ensure_token, link_prometheus_targets, ray_head_arguments, spawn
from fyretoolkit.launch.environment import Copy, platform_environment
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home, prepare_runtime_dir, runtime_dir
from fyretoolkit.launch.ports import PortBlock
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import Event, EventLog, LineTail, RunState, parse_event, read_state, write_state

NODE_ID = "a" * 56
GIB = 1 << 30


def a_copy(home: Path, base: int = 20_480) -> Copy:
    """A copy that does not run."""
    return Copy(
        home=Home(home), runtime_dir=runtime_dir(home), run_id="run", host="127.0.0.1", port=8000,
        mode="development", has_demo=True,
        ports=PortBlock(base), redis_url="unix:///s",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("system", "implementation", "version", "says"),
    [
        ("Darwin", "CPython", (3, 11), "use a Linux machine"),
        ("Linux", "PyPy", (3, 11), "this is PyPy 3.11"),
        ("Linux", "CPython", (3, 10), "this is CPython 3.10"),
        ("Linux", "CPython", (3, 13), "this is CPython 3.13"),
    ],
)
def test_an_unsupported_system_is_one_sentence(
    system: str, implementation: str, version: tuple[int, int], says: str
) -> None:
    """It names what was found and what is needed."""
    with pytest.raises(LaunchError, match=says) as caught:
        preflight.check_system(system, implementation, version)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_supported_systems_pass(version: tuple[int, int]) -> None:
    """Linux with CPython 3.11 and 3.12."""
    preflight.check_system("Linux", "CPython", version)


def test_too_little_memory_is_refused_at_two_and_a_half_gib() -> None:
    """2.5 GiB pass, a byte less does not."""
    preflight.check_memory(5 * GIB // 2)
    with pytest.raises(LaunchError, match=r"needs 2\.5 GiB of free memory, and 2\.5 GiB are free"):
        preflight.check_memory(5 * GIB // 2 - 1)


def test_a_port_in_use_names_its_owner_and_the_option() -> None:
    """This very process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"Port {port} is in use by .*pid {os.getpid()}.*--port"):
            preflight.check_port(port)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    """Before anything is bound."""
    with pytest.raises(LaunchError, match="does not exist"):
        preflight.check_port(port)


@pytest.mark.parametrize("temporary", ["/tmp", "/" + "long/" * 30])
def test_every_socket_path_fits(monkeypatch: pytest.MonkeyPatch, temporary: str) -> None:
    """107 bytes for Ray's sockets, 97 for HAProxy's, whatever TMPDIR says."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: temporary)
    copy = a_copy(Path("/a/home/with/a/very/" + "long/" * 40))
    environment = platform_environment({}, copy)
    folder, name = os.path.split(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"])
    assert len(f"{folder}/{NODE_ID}/{name}") <= 97
    ray = copy.runtime_dir / "ray" / "session_2026-12-31_23-59-59_123456_4194304" / "sockets" / "plasma_store"
    assert len(str(ray)) <= 107


def test_two_copies_share_no_path_and_no_port(tmp_path: Path) -> None:
    """Every value that differs between copies differs; what is fixed is fixed."""
    one = platform_environment({}, a_copy(tmp_path / "one", 20_480))
    two = platform_environment({}, a_copy(tmp_path / "two", 21_504))
    named = [
        name
        for name in one
        if name.endswith(("_PORT", "_LOC", "_PATH", "_BASE", "_FILE", "TMPDIR", "FYRE_HOME"))
        and not name.endswith("_IMPORT_PATH")
    ]
    assert len(named) >= 18
    assert all(one[name] != two[name] for name in named if name != "FYRE_PORT")


def test_a_developers_own_ray_does_not_leak_in(tmp_path: Path) -> None:
    """A token in the environment would win over the copy's token file."""
    parent = {
        "RAY_AUTH_TOKEN": "other",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_PROMETHEUS_HOST": "kept",
        "PATH": "/bin",
    }
    environment = platform_environment(parent, a_copy(tmp_path))
    assert "RAY_AUTH_TOKEN" not in environment
    assert environment["RAY_ADDRESS"] == "127.0.0.1:20481"
    assert environment["RAY_PROMETHEUS_HOST"] == "kept"
    assert environment["PATH"].endswith(":/bin")


def test_the_head_binds_loopback_and_takes_every_port_from_its_block(tmp_path: Path) -> None:
    """No default port of Ray is left, on which a second copy would collide."""
    options = dict(
        part.removeprefix("--").split("=") for part in ray_head_arguments(a_copy(tmp_path)) if "=" in part
    )
    ports = {name: int(value) for name, value in options.items() if name.endswith("port")}
    assert {value for name, value in ports.items() if "worker" not in name} == set(range(20_481, 20_489))
    assert (ports["min-worker-port"], ports["max-worker-port"]) == (0, 0)
    assert options["node-ip-address"] == options["dashboard-host"] == "127.0.0.1"


def test_prometheus_finds_the_targets_of_whichever_run_is_the_last(tmp_path: Path) -> None:
    """Its configuration names one path; Ray's file lies in a folder that goes with the run."""
    copy = replace(a_copy(tmp_path / "home"), runtime_dir=tmp_path / "runtime")
    copy.home.prepare()
    for _ in range(2):
        link_prometheus_targets(copy)
    written = copy.runtime_dir / "ray" / "prom_metrics_service_discovery.json"
    written.parent.mkdir(parents=True)
    written.write_text("[]")
    assert (copy.home.root / "run" / "prometheus.json").read_text() == "[]"


def test_the_token_is_private_and_made_once(tmp_path: Path) -> None:
    """A second start keeps it: drivers that were given it go on working."""
    path = tmp_path / "token"
    ensure_token(path)
    first = path.read_text()
    ensure_token(path)
    assert path.read_text() == first
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_runtime_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """Somebody else may have made it first: /tmp is everybody's."""
    folder = tmp_path / "runtime"
    prepare_runtime_dir(folder)
    prepare_runtime_dir(folder)
    folder.chmod(0o755)
    with pytest.raises(LaunchError, match="not a private folder"):
        prepare_runtime_dir(folder)


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Even one that leads to a private folder of ours."""
    prepare_runtime_dir(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(LaunchError, match="not a private folder"):
        prepare_runtime_dir(tmp_path / "link")


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "home").write_text("")
    with pytest.raises(LaunchError, match="Choose another folder with --home"):
        Home(tmp_path / "home").prepare()


def a_state(**changes: object) -> RunState:
    """The state of a run whose supervisor is this process."""
    own = read_process(os.getpid())
    assert own is not None
    state = RunState("run", own.pid, own.start_ticks, boot_id(), 8000, "development", "/tmp/x")
    return state.with_changes(**changes)


def test_state_comes_back_as_written(tmp_path: Path) -> None:
    """And an unreadable or foreign file is no state, not a crash."""
    home = Home(tmp_path)
    home.prepare()
    assert read_state(home) is None
    write_state(home, a_state(status="ready"))
    assert read_state(home) == a_state(status="ready")
    for content in ("", "[]", '{"schema": 2}', '{"schema": 1, "unknown": 1}'):
        home.state_file.write_text(content)
        assert read_state(home) is None


def test_a_run_is_alive_only_as_the_very_process_of_this_boot() -> None:
    """After a reboot or with a reused pid, `down` must not signal a stranger."""
    assert a_state().is_alive()
    assert not a_state(boot="another").is_alive()
    assert not a_state(start_ticks=1).is_alive()


def test_events_are_read_line_by_line_and_half_a_line_waits(tmp_path: Path) -> None:
    """The reader may look at any moment."""
    path = tmp_path / "events"
    log, tail = EventLog(path), LineTail(path)
    assert tail.new_lines() == []
    log.append(Event("ray", "done", "", 1.5))
    with path.open("a") as file:
        file.write('{"stage": "se')
    assert [parse_event(line) for line in tail.new_lines()] == [Event("ray", "done", "", 1.5)]
    with path.open("a") as file:
        file.write('rve", "state": "start"}\n')
    assert [parse_event(line) for line in tail.new_lines()] == [Event("serve", "start")]
    assert parse_event("not JSON") is parse_event("[1]") is parse_event('{"x": 1}') is None


def test_a_child_has_its_own_group_and_no_blocked_signals(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches `up` alone, and SIGTERM ends children although the supervisor blocks it."""
    output = tmp_path / "out"
    script = (
        "import os, signal; print(os.getpgid(0) == os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    pid = spawn(["python3", "-c", script], os.environ, output=output)
    assert os.waitpid(pid, 0)[1] == 0
    assert output.read_text() == "True set()\n"
