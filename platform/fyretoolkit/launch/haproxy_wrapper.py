"""Narrows the HAProxy configuration that Ray Serve renders, then becomes HAProxy.

Serve's template binds HAProxy's statistics and metrics pages to every interface without a password, makes its
admin socket writable by all, has no limit on how long a client may take to send a request, and offers no
setting for any of it; it turns HAProxy's own failures into `500 text/plain` besides, where the API promises one
envelope. Serve starts whatever `RAY_SERVE_HAPROXY_BINARY_PATH` names, with the file it has just
written; this program rewrites that file in place (Serve recognizes its HAProxy by the file's name in the
command line) under the lock that Serve writes it with. Standard library alone: it runs at every reload.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from pathlib import Path

# What HAProxy answers itself, by status: code of `core.errors.CATALOGUE` (not imported: this runs without
# site-packages) and message. HAProxy 2.8 takes its built-in page for what it cannot parse at all, whatever is said
# here (haproxy issue 3032); later versions obey.
FAILURES = {
    400: (
        "invalid_request",
        "The request is not valid HTTP. Send it with an HTTP client, its path percent-encoded.",
    ),
    408: ("invalid_request", "The request did not arrive in time. Send it again, without pauses."),
    500: (
        "internal_error",
        "The platform failed. Try again; if it stays, give the request_id to the operator.",
    ),
    502: ("bad_gateway", "A part of the platform did not answer. Try again in a moment."),
    503: ("unavailable", "A part of the platform is not available. Try again after Retry-After seconds."),
    504: ("deadline_exceeded", "The answer was not ready in time. Try again in a moment."),
}
_TOO_LARGE = ("headers_too_large", "The request headers are too large. Send fewer or shorter headers.")
_MAX_HEADER_BYTES = 16_384
"""Of all headers together; HAProxy's buffer is larger (`launch/environment.py`), so that it can answer 431."""

# The caller's X-Request-Id if it is well-formed (as `api.requests.request_id` says, but 127 characters are all that
# HAProxy holds), else a new one. It is made when it is asked for, and then stays the same: body and header agree.
_REQUEST_ID = "%[uuid,regsub(^,req_),concat(' ',txn.request_id),word(-1,' ')]"
_KEEP_REQUEST_ID = (
    "http-request set-var(txn.request_id) req.fhdr(x-request-id) if { req.fhdr_cnt(x-request-id) eq 1 }"
    " { req.fhdr(x-request-id) -m reg '^[A-Za-z0-9._-]{1,127}$' }"
)


def _envelope(status: int, code: str, message: str) -> str:
    """HAProxy's arguments for an answer in the API's error schema; strong quotes, so no apostrophe in a message."""
    body = json.dumps(
        {"error": {"code": code, "message": message, "request_id": "%[unique-id]"}}, separators=(",", ":")
    )
    retry = " hdr retry-after 1" if status == 503 else ""
    return f"status {status} content-type application/json lf-string '{body}' hdr x-request-id %[unique-id]{retry}"


def _lines(indent: str, *lines: str) -> str:
    """Lines as a replacement of `re.sub`."""
    return "".join(f"{indent}{line}\n" for line in lines).replace("\\", r"\\")


_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(\s*bind )(?:\*)?:(\d+)", re.MULTILINE), r"\g<1>127.0.0.1:\g<2>"),
    (re.compile(r"^(\s*stats socket \S+ )mode 666\b", re.MULTILINE), r"\g<1>mode 600"),
    # Requests are logged at level info: one system call each. Only what happens to servers is kept.
    (re.compile(r"^(\s*log stderr format raw local0 )info$", re.MULTILINE), r"\g<1>notice"),
    (re.compile(r"^(\s*)timeout connect (.*)$", re.MULTILINE), r"\g<0>\n\g<1>timeout http-request 15s"),
    (re.compile(r"^[ \t]*errorfile 50[234] .*\n", re.MULTILINE), ""),
    (
        re.compile(r"^defaults\n", re.MULTILINE),
        "defaults\n"
        + _lines(
            "    ",
            f'unique-id-format "{_REQUEST_ID}"',
            *(f"http-error {_envelope(status, *failure)}" for status, failure in FAILURES.items()),
        ),
    ),
    (
        re.compile(r"^frontend http_frontend\n[ \t]*bind .*\n", re.MULTILINE),
        r"\g<0>"
        + _lines(
            "    ",
            _KEEP_REQUEST_ID,
            f"http-request return {_envelope(431, *_TOO_LARGE)} if {{ req.hdrs,length gt {_MAX_HEADER_BYTES} }}",
        ),
    ),
    # Serve's answer while there is no application: "404 Path not found", though the path will be there in a moment.
    (
        re.compile(r"^(backend default_backend\n[ \t]*http-request return )status 404 .*$", re.MULTILINE),
        r"\g<1>" + _envelope(503, *FAILURES[503]),
    ),
)
_REWRITTEN = "# confined to loopback\n"


def confine(configuration: str) -> str:
    """The configuration with loopback binds, a private admin socket, a bound on slow requests and our envelope around
    every failure (idempotent)."""
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
