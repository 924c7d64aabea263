"""The supervisor starts in order, revives what dies, says why it failed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fyretoolkit.launch import commands, processes
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home, runtime_dir
from fyretoolkit.launch.state import Event, RunState, parse_event, read_state
from fyretoolkit.store import embedded


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Return as soon as the condition holds; fail when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Running:
    """A supervisor over a stand-in for Ray, and what it wrote."""

    home: Home
    supervisors: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one more supervisor over the home."""
        self.home.prepare()
        command = [
            sys.executable,
            "-m",
            "tests.support.fast_supervisor",
            f"--home={self.home.root}",
            "--port=8000",
        ]
        paths = os.pathsep.join(
            (*map(str, (Path.cwd() / "platform", Path.cwd())), os.environ.get("PYTHONPATH", ""))
        )
        process = subprocess.Popen(
            [*command, "--mode=development", *options],
            env={**os.environ, **environment, "PYTHONPATH": paths},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        self.supervisors.append(process)
        return process

    @property
    def state(self) -> RunState:
        """The last state written."""
        state = read_state(self.home)
        assert state is not None
        return state

    @property
    def events(self) -> list[Event]:
        """The events of the last start."""
        return [
            event for line in self.home.events_file.read_text().splitlines() if (event := parse_event(line))
        ]

    def wait_until(self, status: str, **fields: object) -> None:
        """Wait for a status, and for fields of the state to have these values."""

        def holds() -> bool:
            state = read_state(self.home)
            return (
                state is not None
                and state.status == status
                and all(getattr(state, name) == value for name, value in fields.items())
            )

        wait_for(holds)

    def processes(self) -> dict[int, str]:
        """The copy's processes besides the supervisor, with their command lines."""
        ours = processes.find_ours(self.state.run_id, self.state.pid, self.state.start_ticks)
        return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in ours}

    def pid_of(self, part: str) -> int:
        """The process whose command line holds `part`."""
        (pid,) = [pid for pid, line in self.processes().items() if part in line]
        return pid


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Nothing runs yet; nothing runs afterwards."""
    copy = Running(Home(tmp_path / "home"))
    yield copy
    commands.down(copy.home, is_purged=False)
    for process in copy.supervisors:
        process.wait(10)
    assert not runtime_dir(copy.home.root).exists()


def test_stages_come_in_order_and_are_timed(running: Running) -> None:
    """Redis, Ray, what the bootstrap reports, ready."""
    running.start()
    running.wait_until("ready")
    wait_for(lambda: len(running.events) == 7)
    assert [(event.stage, event.state, event.message) for event in running.events] == [
        ("redis", "start", ""), ("redis", "done", ""), ("ray", "start", ""), ("ray", "done", ""),
        ("serve", "start", ""), ("serve", "done", "2 proxies"), ("ready", "done", "http://localhost:8000"),
    ]  # fmt: skip
    assert all(event.seconds is not None for event in running.events if event.state == "done")


def test_down_leaves_no_process_and_keeps_the_data(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray's child in a group of its own ends too; Redis's file stays."""
    running.start()
    running.wait_until("ready")
    assert len(running.processes()) == 3
    assert commands.down(running.home, is_purged=False) == 0
    assert running.processes() == {}
    assert running.state.status == "stopped"
    assert list(running.home.redis_dir.glob("appendonlydir/*"))
    assert "Kept in" in capsys.readouterr().out


def test_redis_is_back_within_a_second(running: Running) -> None:
    """Ray and the supervisor stay; the state counts it."""
    running.start()
    running.wait_until("ready")
    socket_path = Path(running.state.runtime_dir) / "redis.sock"
    ray = running.pid_of("Ray runtime started")
    os.kill(
        running.pid_of("valkey-server")
        if "valkey" in str(embedded.find_server())
        else running.pid_of("redis-server"),
        signal.SIGKILL,
    )
    killed_at = time.monotonic()
    running.wait_until("ready", redis_restarts=1)
    wait_for(lambda: embedded.is_answering(socket_path))
    assert time.monotonic() - killed_at < 1
    assert running.pid_of("Ray runtime started") == ray


def test_a_dead_ray_head_is_started_again_with_its_bootstrap(running: Running) -> None:
    """What the old one left is ended first; Redis stays."""
    running.start()
    running.wait_until("ready")
    before = running.processes()
    os.kill(running.pid_of("Ray runtime started"), signal.SIGKILL)
    running.wait_until("ready", ray_restarts=1)
    after = running.processes()
    assert len(after) == 3
    assert len(before.keys() & after.keys()) == 1
    assert [event.stage for event in running.events].count("serve") == 4


def test_a_failed_stage_ends_everything_and_says_why(running: Running) -> None:
    """The bootstrap's own message is what `up` shows, with the log to read."""
    assert running.start(FAKE_BOOTSTRAP="fails").wait(30) == 1
    assert running.processes() == {}
    assert running.state.status == "failed"
    assert running.state.message.startswith("the reason Log: ")


def test_a_head_that_ends_at_once_is_reported_with_its_code(running: Running) -> None:
    """Nobody waits two minutes for it."""
    assert running.start(FAKE_RAY="fails").wait(30) == 1
    assert "Ray did not start. Ray's head ended with code 7." in running.state.message
    assert str(running.home.log("ray")) in running.state.message


def test_a_second_supervisor_gives_way(running: Running) -> None:
    """Two `up` at the same moment: one starts the platform."""
    running.start()
    running.wait_until("ready")
    first = running.state
    assert running.start().wait(10) == 3
    assert running.state == first
    assert first.is_alive()


def test_what_a_killed_supervisor_left_is_ended_by_the_next_start(running: Running) -> None:
    """Not a second Redis over the same file."""
    supervisor = running.start()
    running.wait_until("ready")
    left = set(running.processes())
    supervisor.kill()
    supervisor.wait()
    running.start()
    wait_for(lambda: running.state.pid != supervisor.pid)
    running.wait_until("ready")
    assert not left & set(running.processes())


def test_a_second_up_says_where_it_runs(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, whatever port it asks for."""
    running.start()
    running.wait_until("ready")
    options = commands.UpOptions(running.home.root, 8001, "development", is_detached=True, has_demo=True)
    assert commands.up(options) == 0
    assert "already running at http://localhost:8000" in capsys.readouterr().out


def test_down_with_nothing_running_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clear sentence, exit code 0, nothing made."""
    assert commands.down(Home(tmp_path / "none"), is_purged=False) == 0
    assert "No platform is running" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_purge_removes_a_home_and_nothing_else(running: Running, tmp_path: Path) -> None:
    """A mistyped --home must not cost somebody their files."""
    (tmp_path / "documents").mkdir()
    with pytest.raises(LaunchError, match="nothing was removed"):
        commands.down(Home(tmp_path / "documents"), is_purged=True)
    assert (tmp_path / "documents").exists()
    running.home.prepare()
    commands.down(running.home, is_purged=True)
    assert not running.home.root.exists()


def test_in_the_foreground_the_platform_ends_with_its_terminal(running: Running) -> None:
    """`up` was killed without a chance to say goodbye."""
    paths = os.pathsep.join(sys.path)
    starter = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-m', 'tests.support.fast_supervisor', '--home={running.home.root}',"
        " '--port=8000', '--mode=development', '--foreground'], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    running.home.prepare()
    parent = subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": paths})
    running.wait_until("ready")
    parent.kill()
    parent.wait()
    running.wait_until("stopped")
    assert running.processes() == {}
