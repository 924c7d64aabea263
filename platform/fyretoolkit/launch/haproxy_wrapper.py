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
    408: ("request_timeout", "The request did not arrive in time. Send it again, without pauses."),
    500: (
        "internal_error",
        "The platform failed. Try again; if it stays, give the request_id to the operator.",
    ),
    502: ("bad_gateway", "A part of the platform did not answer. Try again in a moment."),
    503: ("unavailable", "A part of the platform is not available. Try again after Retry-After seconds."),
    504: ("deadline_exceeded", "The answer was not ready in time. Try again in a moment."),
}
# What the API would be asked in vain, or must not be: answered at once.
REFUSALS = {
    404: ("not_found", "Nothing answers at this path. Look the path up in /openapi.json."),
    405: ("method_not_allowed", "No path takes this method. Use one of the methods in the Allow header."),
    431: ("headers_too_large", "The request headers are too large. Send fewer or shorter headers."),
}
_MAX_HEADER_BYTES = 16_384
"""Of all headers together; HAProxy's buffer is larger (`launch/environment.py`), so that it can answer 431."""
_MAX_HEADERS = 6_000
"""HAProxy takes more for no HTTP at all; as many as fit into its buffer."""
_REFUSED = (
    (431, f"{{ req.hdrs,length gt {_MAX_HEADER_BYTES} }}"),
    # The replicas' own HTTP server takes few others, and answers them with a text.
    (405, "!{ method GET HEAD POST PUT PATCH DELETE OPTIONS TRACE }"),
    # `OPTIONS *` and `GET models`; then Serve's own pages, which tell everybody what runs here.
    (404, "!{ path_beg / }"),
    (404, "{ path,url_dec -m beg /-/ }"),
)

# The caller's X-Request-Id if it is well-formed (as `api.requests.request_id` says, but 127 characters are all that
# HAProxy holds), else a new one. It is made when it is asked for, and then stays the same: body and header agree.
_REQUEST_ID = "%[uuid,regsub(^,req_),concat(' ',txn.request_id),word(-1,' ')]"
_KEEP_REQUEST_ID = (
    "http-request set-var(txn.request_id) req.fhdr(x-request-id) if { req.fhdr_cnt(x-request-id) eq 1 }"
    " { req.fhdr(x-request-id) -m reg '^[A-Za-z0-9._-]{1,127}$' }"
)
_MORE_HEADERS = {405: " hdr allow 'GET, HEAD, POST, PATCH, DELETE'", 503: " hdr retry-after 1"}
# HAProxy itself says `100 Continue` when it waits for a body. Left to the replica's server, that one closes the
# connection of a request that it refuses unread, and the answer's body is lost on the way in one case of ten.
_CONTINUE = (
    "http-request wait-for-body time 15s at-least 1 if { req.fhdr(expect) -m found }",
    "http-request del-header expect",
)
# The API has no websockets: the upgrade is ignored, as RFC 9110, 7.8 allows, and the request answered as any other. The
# replica's server would refuse it with a bare 403.
_NO_UPGRADE = "http-request del-header upgrade"


def _envelope(status: int, code: str, message: str) -> str:
    """HAProxy's arguments for an answer in the API's error schema; strong quotes, so no apostrophe in a message."""
    body = json.dumps(
        {"error": {"code": code, "message": message, "request_id": "%[unique-id]"}}, separators=(",", ":")
    )
    more = _MORE_HEADERS.get(status, "")
    return f"status {status} content-type application/json lf-string '{body}' hdr x-request-id %[unique-id]{more}"


def _lines(indent: str, *lines: str) -> str:
    """Lines as a replacement of `re.sub`."""
    return "".join(f"{indent}{line}\n" for line in lines).replace("\\", r"\\")


_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(\s*bind )(?:\*)?:(\d+)", re.MULTILINE), r"\g<1>127.0.0.1:\g<2>"),
    (re.compile(r"^global\n", re.MULTILINE), rf"\g<0>    tune.http.maxhdr {_MAX_HEADERS}\n"),
    (re.compile(r"^(\s*stats socket \S+ )mode 666\b", re.MULTILINE), r"\g<1>mode 600"),
    # Requests are logged at level info: one system call each. Only what happens to servers is kept. (That no line is
    # made at all, `option dontlog-normal`, saves little: with it HAProxy 2.8.25 broke connections as an ingress died.)
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
            *(
                f"http-request return {_envelope(status, *REFUSALS[status])} if {when}"
                for status, when in _REFUSED
            ),
            *_CONTINUE,
            _NO_UPGRADE,
            # A replica's HTTP server answers what it cannot read itself, before the API sees it.
            *(
                f"http-response return {_envelope(status, *FAILURES[status])}"
                f" if {{ status {status} }} {{ res.fhdr(content-type) -m beg text/ }}"
                for status in (400, 500, 503)
            ),
        ),
    ),
    # Serve's answer while there is no application: "404 Path not found", though the path will be there in a moment.
    (
        re.compile(r"^(backend default_backend\n[ \t]*http-request return )status 404 .*$", re.MULTILINE),
        r"\g<1>" + _envelope(503, *FAILURES[503]),
    ),
)
_REWRITTEN = "# confined to loopback\n"
_LOOPBACK = "127.0.0.1"
_API_BIND = re.compile(r"^(frontend http_frontend\n[ \t]*)bind 127\.0\.0\.1:(\d+)$", re.MULTILINE)


def confine(configuration: str, host: str = _LOOPBACK) -> str:
    """The configuration with loopback binds, a private admin socket, a bound on slow requests and our envelope around
    every failure (idempotent). The API alone is served on `host` too."""
    if configuration.startswith(_REWRITTEN):
        return configuration
    configuration = _API_BIND.sub(lambda found: found[1] + _api_binds(host, found[2]), configuration)
    for pattern, replacement in _RULES:
        configuration = pattern.sub(replacement, configuration)
    return _REWRITTEN + configuration


def _api_binds(host: str, port: str) -> str:
    """Loopback stays, so that the platform finds itself wherever else it listens."""
    everywhere = {"0.0.0.0": f"bind 0.0.0.0:{port}", "::": f"bind :::{port} v4v6"}  # noqa: S104 - asked for
    loopback = f"bind {_LOOPBACK}:{port}"
    if host == _LOOPBACK:
        return loopback
    return everywhere.get(host) or f"{loopback}\n    bind {host}:{port}"


def confine_file(path: Path, host: str) -> None:
    """Rewrite the file in place, under Serve's own lock."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.write_text(confine(path.read_text("utf-8"), host), "utf-8")


def main(binary: str, host: str, arguments: list[str]) -> None:
    """Confine the file named after `-f`, then replace this process by HAProxy."""
    os.umask(0o077)
    if "-f" in arguments:
        confine_file(Path(arguments[arguments.index("-f") + 1]), host)
    os.execv(binary, [binary, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
