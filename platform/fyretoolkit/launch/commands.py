"""`up` and `down`: what an operator types, and what they read."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch import operator_keys, preflight, processes
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.node import node_from, region_lines
from fyretoolkit.launch.paths import DURABLE, PROJECT_ROOT, Home, runtime_dir, script_for
from fyretoolkit.launch.progress import PlainProgress, Progress, TerminalProgress
from fyretoolkit.launch.state import LineTail, RunState, parse_event, read_state
from fyretoolkit.launch.supervisor import BOOTSTRAP_MODULE, clean_up_after
from fyretoolkit.settings import DEMO_KEY

_LOOKS = 5
"""So often is a copy seen ready before nobody waits for its last event any more: on a full disk it has no room."""
_POLL_S = 0.1
_DOWN_TIMEOUT_S = 60.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMED = 10
_KEPT = ("models (artifacts/)", "files (files/)", "jobs (jobs/)", "deployments and keys (redis/)")


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `up` was asked for."""

    home: Path
    port: int
    mode: str
    is_detached: bool
    has_demo: bool
    host: str | None = None
    """Where the API listens besides loopback; None: as FYRE_HOST says. So for the other two."""
    is_tls_terminated: bool = False
    public_url: str | None = None

    @property
    def bootstrap_module(self) -> str:
        """The module that fills the cluster; tests in development mode may name another."""
        replaced = os.environ.get("FYRE_BOOTSTRAP_MODULE") if self.mode == "development" else None
        return replaced or BOOTSTRAP_MODULE


def up(options: UpOptions) -> int:
    """Start the platform and wait until it is ready; without `--detach`, stay until it ends. The exit code.

    A start or an end that is under way is waited for; where it runs already nothing is started.

    Raises:
        LaunchError: it cannot start, or runs in the other mode; the message says what to do.
    """
    home = Home(options.home)
    if running := _await_other(home):
        stop = script_for("down", home.root)
        if running.mode != options.mode:
            raise LaunchError(
                f"The platform runs in {running.mode} mode at {running.url} (home {home.root}), and was asked for in "
                f"{options.mode} mode. Stop it with {stop} first."
            )
        print(f"The platform is already running at {running.url} (home {home.root}). Stop it with {stop}.")
        return 0
    clean_up_after(home)
    environment = _environment(options)
    settings = preflight.check_settings(environment)
    environment |= {"FYRE_HOST": settings.host, "FYRE_PUBLIC_URL": settings.public_url or ""}
    preflight.check_all(settings, environment)
    home.prepare()
    with _stop_signals_as_interrupt():
        supervisor = _start_supervisor(home, options, environment)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            state = _follow_start(home, supervisor)
            regions = region_lines(settings.regions, node_from(environment).labels)
            print(summary(home, state, has_demo=options.has_demo, regions=regions), flush=True)
            if state.mode == "production":
                operator_keys.print_first(home, state)
            if options.is_detached:
                return 0
            print("Ctrl-C stops the platform.", flush=True)
            return _stay(home, supervisor)
        except KeyboardInterrupt:
            with _stop_signals_ignored():
                with suppress(OSError):  # a closed terminal takes no more
                    print("\nStopping …", flush=True)
                _end_started(supervisor)
                return _report_stopped(home, was_running=True)


def _await_other(home: Home) -> RunState | None:
    """The copy that runs in this home already, once it is ready; None: there is none, or it has ended meanwhile."""
    has_said = False
    while (state := read_state(home)) and state.is_alive():
        if state.status == "ready":
            return state
        if not has_said:
            print(f"The platform of {home.root} is {state.status} already: waiting for that.", flush=True)
            has_said = True
        time.sleep(_POLL_S)
    return None


def _environment(options: UpOptions) -> dict[str, str]:
    """What the supervisor is started with: settings that hold from its folder, too."""
    environment = {**os.environ, "FYRE_MODE": options.mode, "FYRE_PORT": str(options.port)}
    environment |= {"FYRE_HOST": options.host} if options.host else {}
    environment |= {"FYRE_PUBLIC_URL": options.public_url} if options.public_url else {}
    environment |= {"FYRE_TLS_TERMINATED": "1"} if options.is_tls_terminated else {}
    for name in ("FYRE_CONFIG", "FYRE_PLANS"):
        if path := environment.get(name):
            environment[name] = str(Path(path).absolute())
    return environment


def _start_supervisor(
    home: Home, options: UpOptions, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start it, with the signals that stop `up` blocked from then on: none may come before its pid is known."""
    command = [
        sys.executable, "-m", "fyretoolkit.launch.supervisor",
        f"--home={home.root}", f"--port={options.port}", f"--mode={options.mode}",
        f"--host={environment['FYRE_HOST']}",
        f"--bootstrap-module={options.bootstrap_module}",
        "--demo" if options.has_demo else "--no-demo",
        *(() if options.is_detached else (f"--parent={os.getpid()}",)),
    ]  # fmt: skip
    home.events_file.write_bytes(b"")
    log = home.log("supervisor")
    if log.exists():
        log.replace(home.run_dir / "supervisor.log.1")
    with log.open("ab") as output:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _progress() -> Progress:
    console = Console()
    return (
        TerminalProgress(console)
        if console.is_terminal
        else PlainProgress(lambda line: print(line, flush=True))
    )


def _follow_start(home: Home, supervisor: subprocess.Popen[bytes]) -> RunState:
    """Show the stages until the copy is ready.

    Raises:
        LaunchError: it ended before.
    """
    tail, progress = LineTail(home.events_file), _progress()
    failure, looks_ready = "", 0
    try:
        while True:
            code = supervisor.poll()  # before reading: what it wrote last is then there to read
            for event in filter(None, map(parse_event, tail.new_lines())):
                progress.show(event)
                failure = event.message if event.stage == "failed" else failure
                state = read_state(home)
                if event.stage == "ready" and state:
                    return state
            state = read_state(home)
            looks_ready += state is not None and state.pid == supervisor.pid and state.status == "ready"
            if state and looks_ready > _LOOKS:
                return state
            if code == 3:
                raise LaunchError(
                    f"Another scripts/up is starting the platform in {home.root}: wait for that one."
                )
            if code is not None:
                raise LaunchError(
                    failure or "The supervisor ended.", log=None if failure else home.log("supervisor")
                )
            time.sleep(_POLL_S)
    finally:
        progress.close()


def _stay(home: Home, supervisor: subprocess.Popen[bytes]) -> int:
    """Print what happens until the supervisor ends, asked by `down` from elsewhere (0) or by a failure (1)."""
    tail = LineTail(home.events_file)
    tail.new_lines()
    progress = PlainProgress(lambda line: print(line, flush=True))
    while (code := supervisor.poll()) is None:
        for event in filter(None, map(parse_event, tail.new_lines())):
            progress.show(event)
        time.sleep(_POLL_S)
    state = read_state(home)
    if code != 0:
        raise LaunchError(
            state.message if state and state.message else "The supervisor ended.", log=home.log("supervisor")
        )
    print("The platform was stopped.")
    return 0


@contextmanager
def _stop_signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP act like Ctrl-C, so that a closed terminal leaves nothing behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _stop_signals_ignored() -> Iterator[None]:
    """While the platform ends, an impatient Ctrl-C must not leave half of it."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end_started(supervisor: subprocess.Popen[bytes]) -> None:
    """End the supervisor that `up` has started, which may be too young to have written its state."""
    supervisor.terminate()
    try:
        supervisor.wait(_DOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def down(home: Home, *, is_purged: bool) -> int:
    """Stop the platform of this home and say what is kept; with `is_purged`, remove that too. The exit code.

    Raises:
        LaunchError: a process would not end.
    """
    with _stop_signals_ignored():
        state = read_state(home)
        was_running = state is not None and state.is_alive()
        if state and was_running:
            _end_supervisor(state)
        _report_stopped(home, was_running=was_running, is_purged=is_purged)
    return 0


def _report_stopped(home: Home, *, was_running: bool, is_purged: bool = False) -> int:
    left = clean_up_after(home)
    if left:
        raise LaunchError(f"These processes would not end: {sorted(left)}. End them by hand.")
    print("The platform is stopped." if was_running else f"No platform is running in {home.root}.")
    if is_purged:
        purge(home)
    elif home.root.exists():
        print(
            f"Kept in {home.root}: {', '.join(_KEPT)}. {script_for('up', home.root)} continues with it; "
            f"{script_for('down', home.root)} --purge removes it."
        )
    return 0


def _end_supervisor(state: RunState) -> None:
    processes.send((state.pid,), signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    while state.is_alive():
        if time.monotonic() > deadline:
            processes.send((state.pid,), signal.SIGKILL)
        time.sleep(_POLL_S)


def purge(home: Home) -> None:
    """Remove what the platform keeps in the home, and the home if nothing else is in it.

    Raises:
        LaunchError: the folder is not a home of the platform, or something of it cannot be removed.
    """
    if not home.root.exists():
        print(f"Nothing to remove: {home.root} does not exist.")
        return
    if not home.run_dir.is_dir() or not home.redis_dir.is_dir():
        raise LaunchError(f"{home.root} does not look like a home of the platform: nothing was removed.")
    try:
        for folder in (home.root / name for name in DURABLE):
            if folder.exists():
                shutil.rmtree(folder)
        shutil.rmtree(runtime_dir(home.root), ignore_errors=True)
        others = sorted(path.name for path in home.root.iterdir())
        if not others:
            home.root.rmdir()
    except OSError as error:
        raise LaunchError(
            f"Cannot remove {error.filename}: {error.strerror}. Remove the rest of {home.root} by hand."
        ) from error
    print(f"Removed from {home.root}: {', '.join(_KEPT)}.")
    if others:
        print(f"The folder stays, other things are in it: {', '.join(others[:_NAMED])}.")


def summary(home: Home, state: RunState, *, has_demo: bool, regions: Sequence[str] = ()) -> str:
    """What to know and to type next, once the platform is ready. `regions`: as `launch.node` says."""
    lines = [f"\nFyreToolkit answers at {state.url}"]
    if state.mode == "production":
        lines += _production_lines(home, state)
    else:
        lines.append(f"  demo key   {DEMO_KEY} (development mode only)")
        if has_demo:
            lines.append(f"  try        {predict_example(state.url)}")
    lines += [f"  {'' if index else 'regions':<9}  {line}" for index, line in enumerate(regions)]
    lines += [
        f"  dashboard  {state.dashboard_url} asks for a token: cat {shlex.quote(str(home.token_file))}",
        f"  metrics    Prometheus finds its targets in {home.prometheus_targets} (configs/grafana/README.md)",
        f"  fyre       {path_line()}",
        f"  stop       {script_for('down', home.root)}",
    ]
    return "\n".join(lines)


def _production_lines(home: Home, state: RunState) -> list[str]:
    listens = (
        "on this machine alone"
        if state.host == LOOPBACK
        else f"on {state.host}, port {state.port}: TLS ends in front of it"
    )
    return [
        "  mode       production: no demo key, no demo models",
        f"  listens    {listens}",
        *([f"  public     {state.public_url}"] if state.public_url else []),
        f"  keys       {operator_keys.command_for(home)} makes an operator's key",
    ]


def predict_example(url: str) -> str:
    """A command that works as it stands."""
    body = '{"inputs":["an utterly compelling film","a complete waste of time"]}'
    target = f"{url.removeprefix('http://')}/predict/sentiment-v1"
    return f"curl -u {DEMO_KEY}: {target} -d '{body}' -H 'content-type: application/json'"


def path_line() -> str:
    """The line that puts `fyre` on PATH."""
    return f'export PATH="{PROJECT_ROOT}/.venv/bin:$PATH"'
