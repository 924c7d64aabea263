"""`fyre keys` against the real API behind a real HTTP server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli import listing
from fyretoolkit.cli.main import app
from fyretoolkit.client import retries
from fyretoolkit.settings import DEMO_KEY
from tests.support.fyre_command import Fyre

REFUSED, MISUSED, NO_ANSWER = 1, 2, 3


def test_a_new_key_is_alone_on_stdout(fyre: Fyre) -> None:
    """So that a script can take it; what to do with it is on stderr."""
    result = fyre.keys("create", "ci")
    assert result.exit_code == 0
    key = result.stdout.removesuffix("\n")
    assert fyre.opens(key)
    assert key.startswith("sk_live_key_")
    assert "not shown again" in result.stderr
    assert key not in result.stderr


def test_scopes_and_lifetime_are_passed_on(fyre: Fyre) -> None:
    """The answer of the API, as it is."""
    created = fyre.json("keys", "create", "ci", "--scope", "read", "--scope", "admin", "--expires-in-s", "60")
    assert (created["name"], created["scopes"]) == ("ci", ["read", "admin"])
    assert created["expires_at"] == created["created"] + 60


def test_scopes_may_be_divided_by_commas(fyre: Fyre) -> None:
    """In one option or several, each once."""
    created = fyre.json("keys", "create", "ci", "--scope", "read,write", "--scope", "read, predict")
    assert created["scopes"] == ["read", "predict", "write"]
    result = fyre.keys("create", "ci", "--scope", "read,wirte")
    assert (result.exit_code, result.stdout) == (MISUSED, "")
    assert "'wirte' is no scope" in result.stderr


def test_the_help_says_what_the_commands_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what their exit codes mean."""
    monkeypatch.setenv("COLUMNS", "200")
    said = CliRunner().invoke(app, ["keys", "--help"]).stdout
    for part in (
        "All but",
        "FYRE_API_KEY",
        "FYRE_BASE_URL (default http://localhost:8000)",
        "Exit codes: 0 done",
    ):
        assert part in said
    assert "Revoke a key at once." in said


def test_the_list_holds_all_pages_masked(fyre: Fyre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first; no secret in it."""
    monkeypatch.setattr(listing, "PAGE", 2)
    made = [fyre.json("keys", "create", f"key {number}") for number in range(4)]
    listed = fyre.json("keys", "list")
    assert [key["id"] for key in listed["data"]] == [*(key["id"] for key in reversed(made)), "demo"]
    table = fyre.keys("list").stdout
    for key in made:
        assert key["id"] in table
        assert key["name"] in table
        assert f"****{key['key'][-4:]}" in table
        assert key["key"] not in table
        assert key["key"] not in json.dumps(listed)


def test_a_name_is_not_markup(fyre: Fyre) -> None:
    """rich would colour it and drop the brackets."""
    fyre.keys("create", "[red]ci[/red]")
    assert "[red]ci[/red]" in fyre.keys("list").stdout


def test_the_end_of_a_key_is_shown_whole(fyre: Fyre, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have an underscore in it, at which the list once cut it off."""
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "x" * size + "a_b_")
    fyre.keys("create", "ci")
    assert "****a_b_" in fyre.keys("list").stdout


def test_rotation_prints_the_new_key_and_ends_the_old_one(fyre: Fyre) -> None:
    """Without overlap: at once."""
    old = fyre.json("keys", "create", "ci")
    result = fyre.keys("rotate", old["id"], "--overlap-s", "0")
    assert result.exit_code == 0
    assert fyre.opens(result.stdout.strip())
    shown = {key["id"]: key for key in fyre.json("keys", "list")["data"]}
    assert shown[old["id"]]["status"] == "revoked"
    assert shown[shown[old["id"]]["replaced_by"]]["status"] == "active"


def test_revocation_is_repeatable(fyre: Fyre) -> None:
    """The second time says the same."""
    key = fyre.json("keys", "create", "ci")
    for _ in range(2):
        result = fyre.keys("revoke", key["id"])
        assert (result.exit_code, result.stdout) == (0, f"{key['masked']} is revoked.\n")
    assert fyre.json("keys", "revoke", key["id"])["status"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("revoke", "demo"), "api_key_not_changeable"),
        (("revoke", "key_unknown"), "api_key_not_found"),
        (("rotate", "a/b?c#d"), "not_found"),
        (("create", ""), "invalid_request"),
    ],
)
def test_a_refusal_shows_code_message_and_request_id(
    fyre: Fyre, arguments: tuple[str, ...], code: str
) -> None:
    """Exit code 1; nothing on stdout that a script could take for an answer."""
    result = fyre.keys(*arguments)
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    said, *_, request_id = result.stderr.splitlines()
    assert said.startswith(f"{code}: ")
    assert said.endswith(".")
    assert request_id.startswith("request id: req_")


def test_a_key_that_is_not_valid_is_refused(fyre: Fyre, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not repeated in the message."""
    monkeypatch.setenv("FYRE_API_KEY", "sk_live_nobody_secret")
    result = fyre.keys("list")
    assert result.exit_code == REFUSED
    assert result.stderr.startswith("invalid_api_key: ")
    assert "nobody_secret" not in result.output


def test_this_machine_is_not_asked_through_a_proxy(fyre: Fyre, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's proxy for the internet knows no localhost."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    assert fyre.keys("list").exit_code == 0


@pytest.mark.parametrize(
    ("environment", "exit_code", "said"),
    [
        ({"FYRE_API_KEY": ""}, MISUSED, "Set FYRE_API_KEY"),
        ({"FYRE_BASE_URL": "http://[::1"}, MISUSED, "is not usable. Set FYRE_BASE_URL"),
        ({"FYRE_BASE_URL": "ftp://localhost"}, MISUSED, "is not usable. Set FYRE_BASE_URL"),
        ({"FYRE_BASE_URL": "http://127.0.0.1:1"}, NO_ANSWER, "does not answer"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], exit_code: int, said: str
) -> None:
    """Which setting to look at, and no traceback."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    for name, value in {"FYRE_API_KEY": DEMO_KEY, **environment}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["keys", "list"])
    assert (result.exit_code, type(result.exception)) == (exit_code, SystemExit)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


class _Stranger(BaseHTTPRequestHandler):
    """Another program's HTTP server."""

    answer = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing is written."""


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"object": "cat"}', b'{"error": "no"}', b"\xff"])
def test_an_answer_of_another_program_is_told_as_such(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """A wrong port, or a proxy's own page."""
    monkeypatch.setattr(_Stranger, "answer", answer)
    with HTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
        monkeypatch.setenv("FYRE_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        result = CliRunner().invoke(app, ["keys", "list"])
        server.shutdown()
        thread.join()
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert "not as FyreToolkit does" in result.stderr
