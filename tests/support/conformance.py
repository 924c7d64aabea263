"""What a conformance test holds in its hands: the API under a URL, organizations of its own, and how to read a failure.

Nothing here knows the product's code: requests go out over HTTP, and answers are read as a client reads them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from tests.support.platform import until

REGION = "us-east-1"
GOOD, BAD = "an utterly compelling film", "a complete waste of time"
"""Two sentences that sentiment-v1 is sure of: positive, negative."""

UNKNOWN_KEY = "sk_live_key_01ARZ3NDEKTSV4RRFFQ69G5FAV_" + "x" * 32
"""Of the right form; nobody's."""
EFFECTIVE_S = 20
"""A revocation or a new plan is effective within 5 s; a look takes time on a busy machine."""

Remember = Callable[[str, Callable[[], Any]], Any]
"""`remember(name, make)`: what `make()` gave, in this session or an earlier one."""
Jobs = dict[str, dict[str, Any]]
"""Ended jobs by name."""

_PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Caller:
    """The API as the holder of one key sees it; without a key if `key` is None."""

    http: httpx.Client
    key: str | None

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, the key as the Basic username."""
        auth = httpx.BasicAuth(self.key, "") if self.key else None
        return self.http.request(method, path, auth=auth, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """One GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One POST, with a JSON body if one is given."""
        if body is not None:
            options["json"] = body
        return self.request("POST", path, **options)

    def patch(self, path: str, body: Any) -> httpx.Response:
        """One PATCH."""
        return self.request("PATCH", path, json=body)

    def delete(self, path: str) -> httpx.Response:
        """One DELETE."""
        return self.request("DELETE", path)

    def with_key(self, key: str | None) -> Caller:
        """The same API under another key."""
        return Caller(self.http, key)

    def made(self, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The object that a POST creates."""
        answer = self.post(path, body, **options)
        assert answer.status_code in (201, 202), answer.text
        created: dict[str, Any] = answer.json()
        return created

    def read(self, path: str, **options: Any) -> dict[str, Any]:
        """The object that a GET finds."""
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def upload(self, content: bytes, name: str) -> str:
        """The `fyre://files/…` of a new file."""
        options = {"params": {"filename": name}, "headers": {"content-type": "application/octet-stream"}}
        return f"fyre://files/{self.made('/files', content=content, **options)['id']}"

    def settled_deployment(self, **body: Any) -> dict[str, Any]:
        """A new deployment once it is ready or has failed."""
        created = self.made("/deployments", {"region": REGION, **body})
        return self.settle(f"/deployments/{created['id']}", ("ready", "failed"))

    def ended_job(self, job_id: str) -> dict[str, Any]:
        """A job once it has ended."""
        return self.settle(f"/jobs/{job_id}", ("completed", "failed", "canceled"))

    def settle(self, path: str, states: tuple[str, ...]) -> dict[str, Any]:
        """The object once its status is one of these."""

        def settled() -> dict[str, Any] | None:
            found = self.read(path)
            return found if found["status"] in states else None

        return until(settled, timeout_s=_PATIENCE_S, what=f"{path} {' or '.join(states)}")


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization of a test's own, with its first key."""

    id: str
    caller: Caller
    key: dict[str, Any] = field(repr=False)
    """The first key's resource, secret included."""

    def scoped(self, *scopes: str) -> Caller:
        """The API under another key of this organization, with these scopes alone."""
        made = self.caller.made("/api_keys", {"name": "scoped", "scopes": list(scopes)})
        return self.caller.with_key(made["key"])


def new_organization(operator: Caller, plan: str = "unlimited") -> Organization:
    """A new organization; waits when the operator's own limit is used up."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = operator.post("/organizations", {"name": "conformance", "plan": plan})
        if answer.status_code != 429 or time.monotonic() > deadline:
            break
        time.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return Organization(made["id"], operator.with_key(made["api_key"]["key"]), made["api_key"])


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a failure that must have this status and code; checks the envelope around it."""
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert list(answer.json()) == ["error"]
    assert error["code"] == code, error
    assert error.keys() - {"details"} == {"code", "message", "request_id"}, error
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return dict(error)


def fields_of(answer: httpx.Response) -> list[str]:
    """The paths that a 400 names."""
    error = error_of(answer, 400, "invalid_request")
    assert all(each["message"] for each in error["details"]["fields"])
    return [each["path"] for each in error["details"]["fields"]]


def without_request_id(answer: httpx.Response) -> bytes:
    """A failure's bytes but for its request id."""
    return answer.content.replace(answer.headers["x-request-id"].encode(), b"")


def until_refused(caller: Caller) -> httpx.Response:
    """The 401 to a key that just ended."""

    def answered() -> httpx.Response | None:
        answer = caller.get("/models")
        return answer if answer.status_code == 401 else None

    return until(answered, timeout_s=EFFECTIVE_S, what="an ended key refused")


def lines(caller: Caller, url: str) -> list[dict[str, Any]]:
    """The JSON lines behind a URL."""
    answer = caller.get(url)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@contextmanager
def serving(pages: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """The URL of a loopback server that answers these paths with (status, headers, body), and others with 404."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages.get(self.path, (404, {}, b"not here"))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
