"""The supervisor starts in order, revives what dies, says why it failed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fyretoolkit.launch import commands, processes
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home, runtime_dir
from fyretoolkit.launch.state import Event, RunState, parse_event, read_state
from fyretoolkit.store import embedded


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
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
        lines = {}
        for pid in ours:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                lines[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return lines

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
        process.wait(60)
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


def test_redis_is_back_at_once(running: Running) -> None:
    """Ray and the supervisor stay; the state counts it. A fraction of a second, or a busy machine's few seconds."""
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
    assert time.monotonic() - killed_at < 15
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


def test_a_demo_model_that_does_not_come_back_takes_nothing_else_down(running: Running) -> None:
    """Ray is not started again and again for it: the API answers."""
    running.start(FAKE_BOOTSTRAP="without_models")
    running.wait_until("ready")
    os.kill(running.pid_of("Ray runtime started"), signal.SIGKILL)
    running.wait_until("ready", ray_restarts=1)
    (note,) = [event for event in running.events if event.state == "note" and event.stage == "models"]
    assert "the reason" in note.message


def test_redis_that_dies_while_ray_is_ended_is_started_again(running: Running) -> None:
    """Who ended the rest took its exit code, and nobody ever missed it."""
    running.start(FAKE_RAY="lingers")
    running.wait_until("ready")
    (redis,) = [pid for pid, line in running.processes().items() if "redis.sock" in line]
    os.kill(running.pid_of("Ray runtime started"), signal.SIGKILL)
    running.wait_until("restarting")
    os.kill(redis, signal.SIGKILL)
    running.wait_until("ready", ray_restarts=1, redis_restarts=1)
    assert embedded.is_answering(Path(running.state.runtime_dir) / "redis.sock")


def test_a_failed_stage_ends_everything_and_says_why(running: Running) -> None:
    """The bootstrap's own message is what `up` shows, with the log to read."""
    assert running.start(FAKE_BOOTSTRAP="fails").wait(60) == 1
    assert running.processes() == {}
    assert running.state.status == "failed"
    assert running.state.message.startswith("the reason Log: ")


def test_a_head_that_ends_at_once_is_reported_with_its_code(running: Running) -> None:
    """Nobody waits two minutes for it."""
    assert running.start(FAKE_RAY="fails").wait(60) == 1
    assert "Ray did not start. Ray's head ended with code 7." in running.state.message
    assert str(running.home.log("ray")) in running.state.message


def test_a_second_supervisor_gives_way(running: Running) -> None:
    """Two `up` at the same moment: one starts the platform."""
    running.start()
    running.wait_until("ready")
    first = running.state
    assert running.start().wait(60) == 3
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


def test_up_waits_for_a_start_that_is_under_way(running: Running) -> None:
    """It had said "already starting" and 0, and the next command found nobody."""
    running.start()
    wait_for(lambda: read_state(running.home) is not None)
    options = commands.UpOptions(running.home.root, 8000, "development", is_detached=True, has_demo=True)
    assert commands.up(options) == 0
    assert running.state.status == "ready"


def test_up_waits_for_an_end_that_is_under_way(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """And then starts: nothing runs any more."""
    supervisor = running.start(FAKE_RAY="lingers")
    running.wait_until("ready")
    supervisor.terminate()
    running.wait_until("stopping")
    assert commands._await_other(running.home) is None
    assert running.state.status == "stopped"
    assert "is stopping already: waiting for that" in capsys.readouterr().out


def test_up_in_another_mode_is_refused(running: Running) -> None:
    """Whoever asks for production must not go on with a copy that has a public key."""
    running.start()
    running.wait_until("ready")
    options = commands.UpOptions(running.home.root, 8000, "production", is_detached=True, has_demo=False)
    with pytest.raises(LaunchError, match=r"runs in development mode .* asked for in production mode"):
        commands.up(options)


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
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-m', 'tests.support.fast_supervisor', '--home={running.home.root}',"
        " '--port=8000', '--mode=development', f'--parent={os.getpid()}'], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    running.home.prepare()
    parent = subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": paths})
    running.wait_until("ready")
    parent.kill()
    parent.wait()
    running.wait_until("stopped")
    assert running.processes() == {}


def fill_disk(home: Home, supervisor: int) -> tuple[Path, ...]:
    """Every report of this supervisor ends with ENOSPC until these links are gone."""
    links = (home.events_file, home.state_file.with_name(f"{home.state_file.name}.{supervisor}"))
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/full")
    return links


def test_a_start_is_not_undone_because_it_cannot_be_reported(running: Running) -> None:
    """The disk was full for the last line of all, "ready", and the platform ended again."""
    running.home.prepare()
    running.home.events_file.symlink_to("/dev/full")
    supervisor = running.start()
    running.wait_until("ready")
    running.home.events_file.unlink()
    running.home.events_file.touch()
    assert commands._follow_start(running.home, supervisor).pid == supervisor.pid  # `up` need not read it
    supervisor.terminate()
    assert supervisor.wait(60) == 0


def test_on_a_full_disk_redis_and_ray_are_still_started_again(running: Running) -> None:
    """The supervisor died of its own report; and what it could not write it writes when there is room again."""
    supervisor = running.start()
    running.wait_until("ready")
    links = fill_disk(running.home, supervisor.pid)
    (redis,) = [pid for pid, line in running.processes().items() if "redis.sock" in line]
    socket_path = Path(running.state.runtime_dir) / "redis.sock"
    os.kill(redis, signal.SIGKILL)
    wait_for(lambda: redis not in running.processes() and embedded.is_answering(socket_path))
    ray = running.pid_of("Ray runtime started")
    os.kill(ray, signal.SIGKILL)
    wait_for(
        lambda: any(pid != ray and "Ray runtime started" in line for pid, line in running.processes().items())
    )
    for link in links:
        link.unlink()
    running.wait_until("ready", redis_restarts=1, ray_restarts=1)
    assert supervisor.poll() is None


def test_on_a_full_disk_down_still_leaves_no_process(running: Running) -> None:
    """In order, exit code 0."""
    supervisor = running.start()
    running.wait_until("ready")
    fill_disk(running.home, supervisor.pid)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert running.processes() == {}


def test_ctrl_c_right_after_up_has_started_leaves_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The supervisor was too young to have a state, so `down` did not find it, and the platform went on starting."""

    def interrupted(_: Home, supervisor: subprocess.Popen[bytes]) -> RunState:
        started.append(supervisor)
        raise KeyboardInterrupt

    started: list[subprocess.Popen[bytes]] = []

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(commands.preflight, "check_all", lambda *_: None)
    monkeypatch.setattr(commands, "_follow_start", interrupted)
    options = commands.UpOptions(running.home.root, 18_001, "development", is_detached=True, has_demo=True)
    try:
        assert commands.up(options) == 0
        assert started[0].poll() == 0
    finally:
        started[0].terminate()
        started[0].wait(60)
    assert "The platform is stopped." in capsys.readouterr().out
    assert running.state.status == "stopped"
    assert not running.state.is_alive()
    assert running.processes() == {}


def test_a_supervisor_whose_parent_is_gone_already_does_not_start(running: Running) -> None:
    """Nobody would tell it any more: it waited for the end of a process that had ended."""
    assert running.start(f"--parent={2**22 + 1}").wait(60) == 0
    assert read_state(running.home) is None


def test_ctrl_c_during_down_does_not_leave_half_of_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Impatience while it waits for the supervisor."""
    running.start()
    running.wait_until("ready")
    end = commands._end_supervisor

    def end_interrupted(state: RunState) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end(state)

    monkeypatch.setattr(commands, "_end_supervisor", end_interrupted)
    assert commands.down(running.home, is_purged=False) == 0
    assert running.processes() == {}


def test_purge_keeps_the_users_own_files_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--home` may name a folder that holds other things, too."""
    home = Home(tmp_path / "mine")
    home.prepare()
    (home.root / "artifacts" / "model").write_text("ours")
    (home.root / "thesis.tex").write_text("the user's")
    commands.down(home, is_purged=True)
    assert [path.name for path in home.root.iterdir()] == ["thesis.tex"]
    assert "other things are in it: thesis.tex" in capsys.readouterr().out


def test_what_purge_cannot_remove_is_one_sentence(tmp_path: Path) -> None:
    """A link in the place of a folder is not followed."""
    home = Home(tmp_path / "home")
    home.prepare()
    (tmp_path / "elsewhere").mkdir()
    (home.root / "artifacts").rmdir()
    (home.root / "artifacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LaunchError, match=r"Cannot remove .*by hand"):
        commands.down(home, is_purged=True)
    assert (tmp_path / "elsewhere").exists()
