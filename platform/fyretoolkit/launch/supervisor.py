"""Keeps one copy of the platform running: Redis, then the Ray head, then the bootstrap; ends all of it on SIGTERM.

Run by `up` as `python -m fyretoolkit.launch.supervisor`, in a session of its own. It is the parent, by
adoption too, of every process of the copy, so that nothing outlives it unnoticed. One thread, no handlers:
signals are blocked and waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch import children, processes
from fyretoolkit.launch.environment import Copy, platform_environment
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.node import node_from
from fyretoolkit.launch.paths import PROJECT_ROOT, Home, prepare_runtime_dir, runtime_dir
from fyretoolkit.launch.ports import claim_block
from fyretoolkit.launch.redis_child import RedisChild
from fyretoolkit.launch.state import Event, EventLog, LineTail, RunState, parse_event, read_state, write_state
from fyretoolkit.store.embedded import configured_url, url_of

_MODELS = "models"
"""The bootstrap's last stage."""
BOOTSTRAP_MODULE = "fyretoolkit.control.bootstrap"
_RAY_TIMEOUT_S, _BOOTSTRAP_TIMEOUT_S, _REDIS_TIMEOUT_S = 120.0, 600.0, 60.0
_RESTART_WINDOW_S, _LONGEST_PAUSE_S = 600.0, 60.0
_RAY_STARTED = "Ray runtime started."


class StopRequestedError(Exception):
    """Somebody asked the supervisor to end the platform."""


class Supervisor:
    """One run of a copy, from start to end."""

    def __init__(
        self, copy: Copy, *, bootstrap_module: str = BOOTSTRAP_MODULE, owns_redis: bool = True
    ) -> None:
        self._copy = copy
        self._home = copy.home
        self._bootstrap_module = bootstrap_module
        self._environment = platform_environment(os.environ, copy)
        self._events = EventLog(self._home.events_file)
        self._redis = (
            RedisChild(self._home, copy.runtime_dir, environment=self._environment, note=self._note)
            if owns_redis
            else None
        )
        self._ended: dict[int, int] = {}
        """Exit codes of children that ended, until they are dealt with: a pid comes again."""
        self._ray_pid = 0
        self._is_saved = True
        self._restarts: list[float] = []
        own = processes.read_process(os.getpid())
        assert own is not None  # noqa: S101 - this process exists
        self._state = RunState(
            run_id=copy.run_id, pid=own.pid, start_ticks=own.start_ticks, boot=processes.boot_id(),
            port=copy.port, mode=copy.mode, runtime_dir=str(copy.runtime_dir),
            dashboard_url=copy.dashboard_url, ray_address=copy.ray_address, started_at=time.time(),
            host=copy.host, public_url=os.environ.get("FYRE_PUBLIC_URL", ""),
        )  # fmt: skip

    def run(self) -> int:
        """Start everything, keep it running until asked to stop, end it; the exit code (0: it was asked to)."""
        began = time.monotonic()
        try:
            write_state(self._home, self._state)  # a run that nobody could find must not start
            self._start()
            self._save(status="ready", ready_at=time.time())
            self._tell(Event("ready", "done", self._state.url, round(time.monotonic() - began, 1)))
            self._watch()
        except StopRequestedError:
            self._end("stopped", "")
            return 0
        except (LaunchError, PlatformError, OSError) as error:
            message = error.message if isinstance(error, PlatformError) else str(error)
            self._note("failed", message)
            self._end("failed", message)
            return 1

    # --- starting
    # -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._redis:
            with self._stage("redis", self._home.log("redis")):
                self._redis.start()
                self._wait_until(self._redis.is_answering, _REDIS_TIMEOUT_S, "Redis did not answer.")
        self._start_ray_and_bootstrap()

    def _start_ray_and_bootstrap(self) -> None:
        warm, go = self._spawn_bootstrap()
        try:
            log = self._home.log("ray")
            with self._stage("ray", log):
                arguments = children.ray_head_arguments(self._copy)
                tail = LineTail(log)
                tail.new_lines()
                self._ray_pid = children.spawn(arguments, self._environment, output=log)
                self._ended.pop(self._ray_pid, None)
                self._wait_until(
                    lambda: _has_started(tail), _RAY_TIMEOUT_S, "Ray did not start.", needs=self._ray_pid
                )
            os.write(go, b"go\n")
            self._follow_bootstrap(warm)
        finally:
            os.close(go)

    def _spawn_bootstrap(self) -> tuple[int, int]:
        """The bootstrap's pid and the pipe whose first line lets it go on: it imports Ray while the head starts."""
        reading, writing = os.pipe()
        self._bootstrap_tail = LineTail(self._bootstrap_output)
        self._bootstrap_output.unlink(missing_ok=True)
        try:
            pid = children.spawn(
                children.bootstrap_arguments(self._bootstrap_module),
                self._environment,
                output=self._bootstrap_output,
                errors=self._home.log("bootstrap"),
                stdin=reading,
            )
        finally:
            os.close(reading)
        self._ended.pop(pid, None)
        return pid, writing

    @property
    def _bootstrap_output(self) -> Path:
        return self._home.run_dir / "bootstrap.jsonl"

    def _follow_bootstrap(self, pid: int) -> None:
        log = self._home.log("bootstrap")
        began: dict[str, float] = {}
        failed, failure = "", ""

        def forward() -> None:
            nonlocal failed, failure
            for event in filter(None, map(parse_event, self._bootstrap_tail.new_lines())):
                now = time.monotonic()
                begin = began.setdefault(event.stage, now)
                seconds = None if event.state == "start" else round(now - begin, 1)
                self._tell(Event(event.stage, event.state, event.message, seconds))
                if event.state == "failed":
                    failed, failure = event.stage, event.message

        def has_ended() -> bool:
            forward()
            return pid in self._ended

        self._wait_until(
            has_ended,
            _BOOTSTRAP_TIMEOUT_S,
            "The platform did not get ready in time.",
            needs=self._ray_pid,
            log=log,
        )
        forward()
        code = self._ended.pop(pid)
        if code and failed == _MODELS and self._state.ray_restarts:
            # It answers for everybody else's: starting it all again would take that away, and help nobody.
            self._note(_MODELS, f"{failure}: not ready; the rest of the platform is.")
        elif code:
            raise LaunchError(failure or f"The bootstrap ended with code {code}.", log=log)

    @contextlib.contextmanager
    def _stage(self, name: str, log: Path) -> Iterator[None]:
        began = time.monotonic()
        self._tell(Event(name, "start"))
        try:
            yield
        except (LaunchError, PlatformError, OSError) as error:
            self._tell(Event(name, "failed", str(error), round(time.monotonic() - began, 1)))
            if isinstance(error, LaunchError) and error.log is None:
                raise LaunchError(str(error), log=log) from error
            raise
        self._tell(Event(name, "done", "", round(time.monotonic() - began, 1)))

    # --- waiting
    # ---------------------------------------------------------------------------------------------------

    def _tick(self, timeout_s: float) -> None:
        """Wait for a signal or the timeout; collect ended children, revive Redis.

        Raises:
            StopRequestedError: somebody asked.
        """
        received = signal.sigtimedwait(children.SUPERVISED_SIGNALS, timeout_s)
        self._ended.update(processes.reap())
        if received and received.si_signo != signal.SIGCHLD:
            raise StopRequestedError
        if self._redis:
            self._redis.revive_if_ended(self._ended)
            if self._redis.restarts != self._state.redis_restarts:
                self._save(redis_restarts=self._redis.restarts)

    def _wait_until(
        self,
        is_so: Callable[[], bool],
        timeout_s: float,
        complaint: str,
        *,
        needs: int = 0,
        log: Path | None = None,
    ) -> None:
        """Return when `is_so()`.

        Raises:
            LaunchError: it took longer than `timeout_s`, or the process `needs` ended meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if needs and needs in self._ended:
                raise LaunchError(f"{complaint} Ray's head ended with code {self._ended[needs]}.", log=log)
            if time.monotonic() > deadline:
                raise LaunchError(f"{complaint} It was given {timeout_s:.0f} s.", log=log)
            self._tick(0.1)

    # --- running
    # ---------------------------------------------------------------------------------------------------

    def _watch(self) -> NoReturn:
        while True:
            self._tick(1.0)
            if not self._is_saved:
                self._save()
            if self._ray_pid in self._ended:
                self._restart_ray()
            else:
                self._ended.clear()

    def _restart_ray(self) -> None:
        """As often as it takes, with pauses that grow to a minute: nobody else would."""
        while True:
            if (code := self._ended.pop(self._ray_pid, None)) is not None:
                self._note("ray", f"Ray's head ended with code {code}: starting it again.")
            self._save(status="restarting", ray_restarts=self._state.ray_restarts + 1)
            now = time.monotonic()
            self._restarts = [at for at in self._restarts if at > now - _RESTART_WINDOW_S]
            self._end_all_but_redis()
            resume = now + min(_LONGEST_PAUSE_S, 2.0 ** len(self._restarts) - 1)
            self._restarts.append(now)
            while time.monotonic() < resume:
                self._tick(0.2)
            try:
                self._start_ray_and_bootstrap()
            except (LaunchError, PlatformError, OSError) as error:
                self._note("ray", str(error))
                continue
            self._save(status="ready")
            return

    # --- ending
    # ----------------------------------------------------------------------------------------------------

    def _end_all_but_redis(self) -> None:
        keep = frozenset({self._redis.pid} if self._redis else ())
        if self._ray_pid:
            processes.send_group(self._ray_pid, signal.SIGTERM)
        state, ended = self._state, self._ended
        processes.end_ours(state.run_id, state.pid, state.start_ticks, keep=keep, grace_s=4.0, ended=ended)
        self._ended.update(processes.reap())
        shutil.rmtree(self._copy.runtime_dir / "ray", ignore_errors=True)
        shutil.rmtree(self._copy.runtime_dir / "h", ignore_errors=True)

    def _end(self, status: str, message: str) -> None:
        """End Ray first, Redis last: what ends may still have something to write."""
        self._save(status="stopping")
        self._end_all_but_redis()
        left = processes.end_ours(
            self._state.run_id, self._state.pid, self._state.start_ticks, keep=frozenset(), grace_s=10.0
        )
        shutil.rmtree(self._copy.runtime_dir, ignore_errors=True)
        self._save(status=status, message=message or (f"still running: {sorted(left)}" if left else ""))
        self._tell(Event("stopped", "done"))

    def _note(self, stage: str, message: str) -> None:
        _log(f"{stage}: {message}")
        self._tell(Event(stage, "failed" if stage == "failed" else "note", message))

    # Reports decide nothing: on a full disk the copy is still kept running, and still ended in order.

    def _tell(self, event: Event) -> None:
        try:
            self._events.append(event)
        except OSError as error:
            _log(f"cannot write {self._home.events_file}: {error.strerror}")

    def _save(self, **changes: object) -> None:
        self._state = self._state.with_changes(**changes)
        try:
            write_state(self._home, self._state)
        except OSError as error:
            if self._is_saved:
                _log(f"cannot write {self._home.state_file}: {error.strerror}; trying again")
            self._is_saved = False
        else:
            self._is_saved = True


def _log(line: str) -> None:
    """A line in the supervisor's log, if it takes one: past Python's buffers, which would complain again at exit."""
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())


def _has_started(tail: LineTail) -> bool:
    return any(_RAY_STARTED in line for line in tail.new_lines())


def clean_up_after(home: Home) -> set[int]:
    """End what a run whose supervisor died has left behind; the pids that would not end."""
    state = read_state(home)
    if state is None or state.is_alive():
        return set()
    left = set()
    if state.boot == processes.boot_id():
        left = processes.end_ours(state.run_id, state.pid, state.start_ticks, keep=frozenset(), grace_s=5.0)
    shutil.rmtree(state.runtime_dir, ignore_errors=True)
    return left


def _prepare_copy(options: argparse.Namespace) -> Copy:
    home = Home(Path(options.home))
    folder = runtime_dir(home.root)
    prepare_runtime_dir(folder)
    (folder / "tmp").mkdir(mode=0o700, exist_ok=True)
    for log in ("redis", "ray", "bootstrap"):
        if home.log(log).exists():
            home.log(log).replace(home.run_dir / f"{log}.log.1")
    copy = Copy(
        home=home, runtime_dir=folder, run_id=uuid.uuid4().hex, host=options.host, port=options.port,
        mode=options.mode, has_demo=options.demo, ports=claim_block(int(folder.name[-8:], 16), http_port=options.port),
        redis_url=configured_url(os.environ) or url_of(folder / "redis.sock"), node=node_from(os.environ),
    )  # fmt: skip
    children.ensure_token(home.token_file)
    children.write_haproxy_wrapper(copy.haproxy_wrapper, copy.host)
    children.link_prometheus_targets(copy)
    return copy


def main(arguments: list[str]) -> int:
    """Supervise one copy. Exit code 0: it was asked to stop; 1: it failed; 3: another one has this home."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--demo", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--parent", type=int, help="pid of the process to end with")
    parser.add_argument("--bootstrap-module", default=BOOTSTRAP_MODULE)
    options = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, children.SUPERVISED_SIGNALS)
    processes.become_subreaper()
    if options.parent:
        processes.end_with_parent()
        if os.getppid() != options.parent:  # it ended before it could be watched
            return 0
    home = Home(Path(options.home))
    home.prepare()
    with home.lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 3
        clean_up_after(home)
        os.chdir(PROJECT_ROOT)
        owns_redis = configured_url(os.environ) is None
        try:
            copy = _prepare_copy(options)
        except (LaunchError, OSError) as error:
            _log(str(error))
            EventLog(home.events_file).append(Event("failed", "failed", str(error)))
            return 1
        return Supervisor(copy, bootstrap_module=options.bootstrap_module, owns_redis=owns_redis).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
