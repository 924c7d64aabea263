"""Narrows the HAProxy configuration that Ray Serve renders, then becomes HAProxy.

Serve's template binds HAProxy's statistics and metrics pages to every interface without a password, makes its
admin socket writable by all, has no limit on how long a client may take to send a request, and offers no
setting for any of it. Serve starts whatever `RAY_SERVE_HAPROXY_BINARY_PATH` names, with the file it has just
written; this program rewrites that file in place (Serve recognizes its HAProxy by the file's name in the
command line) under the lock that Serve writes it with. Standard library alone: it runs at every reload.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
from pathlib import Path

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(\s*bind )(?:\*)?:(\d+)", re.MULTILINE), r"\g<1>127.0.0.1:\g<2>"),
    (re.compile(r"^(\s*stats socket \S+ )mode 666\b", re.MULTILINE), r"\g<1>mode 600"),
    # Requests are logged at level info: one system call each. Only what happens to servers is kept.
    (re.compile(r"^(\s*log stderr format raw local0 )info$", re.MULTILINE), r"\g<1>notice"),
    (re.compile(r"^(\s*)timeout connect (.*)$", re.MULTILINE), r"\g<0>\n\g<1>timeout http-request 15s"),
)
_REWRITTEN = "# confined to loopback\n"


def confine(configuration: str) -> str:
    """The configuration with loopback binds, a private admin socket and a bound on slow requests (idempotent)."""
    if configuration.startswith(_REWRITTEN):
        return configuration
    for pattern, replacement in _RULES:
        configuration = pattern.sub(replacement, configuration)
    return _REWRITTEN + configuration


def confine_file(path: Path) -> None:
    """Rewrite the file in place, under Serve's own lock."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.write_text(confine(path.read_text("utf-8")), "utf-8")


def main(binary: str, arguments: list[str]) -> None:
    """Confine the file named after `-f`, then replace this process by HAProxy."""
    os.umask(0o077)
    if "-f" in arguments:
        confine_file(Path(arguments[arguments.index("-f") + 1]))
    os.execv(binary, [binary, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
