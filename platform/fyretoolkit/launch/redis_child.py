"""The supervisor's Redis: started first, started again when it dies.

With `appendfsync always` Redis ends itself when it cannot write its file (a full disk), so a restart is part
of its normal life: the first one at once, then with growing pauses, since a disk does not get free by being
asked often. One that had served for a while before it ended, or that was killed, is started at once again, or nearly
so: nothing in the platform goes on without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

from fyretoolkit.launch import children
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home
from fyretoolkit.store import embedded

_LONGEST_PAUSE_S = 10.0
_LONGEST_PAUSE_IF_KILLED_S = 1.0
"""By a signal: it did not end itself, so its disk is none of the reason."""
_STEADY_S = 10.0
"""On a full disk it ends with its first write, long before that: somebody writes every second."""


class RedisChild:
    """One Redis process after another over one folder."""

    def __init__(
        self,
        home: Home,
        runtime_dir: Path,
        *,
        environment: Mapping[str, str],
        note: Callable[[str, str], None],
    ) -> None:
        self._home = home
        self._socket_path = runtime_dir / "redis.sock"
        self._environment = environment
        self._note = note
        self._has_answered = False
        self._started_at = 0.0
        self._failures = 0
        self._resume_at: float | None = None
        self.pid = 0
        self.restarts = 0

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises:
            PlatformError: there is no server to start.
        """
        self._arguments = embedded.server_arguments(
            embedded.find_server(), directory=self._home.redis_dir, socket_path=self._socket_path
        )
        self._spawn()

    def _spawn(self) -> None:
        self.pid = children.spawn(self._arguments, self._environment, output=self._home.log("redis"))
        self._started_at = time.monotonic()
        self._resume_at = None

    def is_answering(self) -> bool:
        """Whether the server answers PING."""
        self._has_answered = embedded.is_answering(self._socket_path)
        return self._has_answered

    def revive_if_ended(self, ended: MutableMapping[int, int]) -> None:
        """Start the server again if it is among the ended, now or when its pause is over.

        Its exit code is taken from them, and so is an old one under the new server's pid: a living server that was
        taken for dead would get a second one over the same file.

        Raises:
            LaunchError: it ended before it ever answered.
        """
        now = time.monotonic()
        if self._resume_at is None and (code := ended.pop(self.pid, None)) is not None:
            if not self._has_answered:
                raise LaunchError(
                    f"Redis ended with code {code} while it started.", log=self._home.log("redis")
                )
            self._failures = 1 if now - self._started_at > _STEADY_S else self._failures + 1
            longest_s = _LONGEST_PAUSE_IF_KILLED_S if code < 0 else _LONGEST_PAUSE_S
            pause_s = min(longest_s, 2.0 ** (self._failures - 2)) if self._failures > 1 else 0.0
            self._note("redis", f"Redis ended with code {code}: starting it again in {pause_s:.1f} s.")
            self._resume_at = now + pause_s
        if self._resume_at is not None and now >= self._resume_at:
            try:
                self._spawn()
            except OSError as error:
                self._note("redis", f"Redis cannot be started: {error.strerror}.")
                self._resume_at = now + _LONGEST_PAUSE_S
            else:
                ended.pop(self.pid, None)
                self.restarts += 1
