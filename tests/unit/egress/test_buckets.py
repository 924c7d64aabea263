"""`s3://`: objects of a real S3 server, which of them may be read, and what its failures become."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress import buckets
from fyretoolkit.egress.fetch import fetch
from fyretoolkit.egress.transfer import Fetched, Timeouts
from fyretoolkit.egress.urls import Policy, Purpose, check_url, parse_url, policy_from
from fyretoolkit.settings import Settings
from tests.support.s3_server import CREDENTIALS, S3Server

PATIENT = Timeouts(connect_s=5, read_s=10, total_s=30)


def settings_with(tmp_path: Path, s3: dict[str, Any], **fields: Any) -> Settings:
    """A platform whose operator opened some buckets."""
    values = {"home": tmp_path / "home", "redis_url": "unix:///nowhere", "egress": {"s3": s3}, **fields}
    return Settings.model_validate(values)


@pytest.fixture
def policy(s3: S3Server, tmp_path: Path) -> Policy:
    """One bucket, and of another one what lies beneath a prefix."""
    return policy_from(settings_with(tmp_path, {**s3.settings, "roots": ["opened", "half/public/"]}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where objects go; a test that fails to fetch expects it empty."""
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def fetched(
    url: str,
    folder: Path,
    policy: Policy,
    *,
    max_bytes: int = 64 << 20,
    timeouts: Timeouts = PATIENT,
    **codes: str,
) -> Fetched:
    return asyncio.run(
        fetch(
            url,
            folder / "input",
            policy=policy,
            max_bytes=max_bytes,
            timeouts=timeouts,
            not_found_code="artifact_not_found",
            unreachable_code="artifact_unreachable",
            too_large_code="artifact_too_large",
            **codes,  # type: ignore[typeddict-item]
        )
    )


def failure(url: str, folder: Path, policy: Policy, **options: Any) -> PlatformError:
    """The error of a fetch that must fail and leave nothing behind."""
    with pytest.raises(PlatformError) as caught:
        fetched(url, folder, policy, **options)
    assert list(folder.iterdir()) == []
    assert not any(secret in caught.value.message for secret in CREDENTIALS.values() if secret != "true")
    return caught.value


@pytest.mark.parametrize("size", [0, 10, (8 << 20) + 1])
def test_an_object_arrives_whole(s3: S3Server, folder: Path, policy: Policy, size: int) -> None:
    """Bytes, digest, type and name, however many requests it takes."""
    content = bytes(size - 1) + b"x" if size else b""
    s3.put("opened/models/My Model.onnx", content)
    found = fetched("s3://opened/models/My%20Model.onnx", folder, policy, max_bytes=size)
    assert (found.size_bytes, found.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert found.path.read_bytes() == content
    assert (found.name, found.final_url) == ("My Model.onnx", "s3://opened/models/My%20Model.onnx")
    assert (found.content_type, bool(found.etag)) == ("application/x-test", True)


def test_what_the_operator_did_not_open_is_refused_before_any_request(folder: Path, policy: Policy) -> None:
    """The credentials could read it: the list decides. A prefix ends at a slash. The message names the setting."""
    unreachable = replace(
        policy, storage=policy.storage.model_copy(update={"endpoint": "http://127.0.0.1:1"})
    )
    for url in (
        "s3://closed/a.onnx", "s3://openedtoo/a.onnx", "s3://half/a.onnx", "s3://half/publicity/a.onnx",
        "s3://half/public", "s3://half/public%2F../private.onnx",
    ):  # fmt: skip
        error = failure(url, folder, unreachable)
        assert error.code == "url_not_allowed", url
        assert ("egress.s3.roots" in error.message) or ".. segment" in error.message
    assert failure("s3://half/public/a.onnx", folder, unreachable).code == "artifact_unreachable"


@pytest.mark.parametrize("mode", ["development", "production"])
def test_nothing_is_open_by_itself(tmp_path: Path, mode: str) -> None:
    """And nothing ever as a webhook."""
    policy = policy_from(settings_with(tmp_path, {}, mode=mode))
    with pytest.raises(PlatformError, match=r"egress\.s3\.roots") as refused:
        check_url("s3://opened/a.onnx", policy)
    assert refused.value.code == "url_not_allowed"
    opened = settings_with(tmp_path, {"roots": ["opened"]}, mode=mode)
    assert check_url("s3://opened/a.onnx", policy_from(opened)).object_path == "opened/a.onnx"
    with pytest.raises(PlatformError, match="s3:// is not allowed here"):
        check_url("s3://opened/a.onnx", policy_from(opened, Purpose.WEBHOOK))


def test_the_artifact_store_is_never_a_source(tmp_path: Path) -> None:
    """It holds every organization's models, and may lie in a bucket that is open otherwise."""
    settings = settings_with(tmp_path, {"roots": ["opened"]}, artifacts={"url": "s3://opened/store/"})
    policy = policy_from(settings)
    for url in ("s3://opened/store/abc/model.onnx", "s3://opened/store/"):
        with pytest.raises(PlatformError, match="keeps its own"):
            check_url(url, policy)
    assert check_url("s3://opened/stored.onnx", policy).file_name == "stored.onnx"


def test_a_redirect_never_leads_into_a_bucket(policy: Policy) -> None:
    """A server chose it, not the caller."""
    url = check_url("https://example.com/", policy)
    assert "s3" not in policy.after(url).schemes


def test_what_is_not_there_is_not_found(s3: S3Server, folder: Path, policy: Policy) -> None:
    """No such key, a key that others begin with, no such bucket, a folder."""
    s3.put("opened/folder/model.onnx", b"x")
    for url in (
        "s3://opened/none.onnx",
        "s3://opened/folder",
        "s3://half/public/a.onnx",
        "s3://opened/folder/",
    ):
        error = failure(url, folder, policy)
        assert error.code == "artifact_not_found", url
        assert url in error.message


def test_a_size_above_the_limit_is_not_read(s3: S3Server, folder: Path, policy: Policy) -> None:
    """It is known before the first byte."""
    s3.put("opened/large", b"x" * 1001)
    assert failure("s3://opened/large", folder, policy, max_bytes=1000).code == "artifact_too_large"


def test_an_object_that_is_replaced_while_it_is_read_is_refused(
    s3: S3Server, folder: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are asked for one by one: half of one version and half of another is neither."""
    s3.put("opened/changing", b"a" * (9 << 20))
    read = buckets._Object.read

    def replaced_behind_the_first_part(source: Any) -> bytes:
        part = read(source)
        s3.put("opened/changing", b"b" * (9 << 20))
        return part

    monkeypatch.setattr(buckets._Object, "read", replaced_behind_the_first_part)
    error = failure("s3://opened/changing", folder, policy)
    assert (error.code, "written to while it was read" in error.message) == ("artifact_unreachable", True)
    s3.put("opened/changing", b"a" * (9 << 20))
    pinned = failure("s3://opened/changing", folder, policy, changed_code="input_changed")
    assert pinned.code == "input_changed"


def test_a_connection_that_breaks_is_made_again(
    s3: S3Server,
    folder: Path,
    policy: Policy,
    breaking: Callable[[S3Server, int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The part that was on its way is asked for once more, also when the client gave it up; every byte comes once."""
    monkeypatch.setattr(buckets, "_PAUSES_S", (0.01, 0.01))
    content = bytes(range(256)) * (12 << 12)
    s3.put("opened/long", content)
    storage = policy.storage.model_copy(update={"endpoint": breaking(s3, 4)})
    found = fetched("s3://opened/long", folder, replace(policy, storage=storage))
    assert found.path.read_bytes() == content
    assert found.sha256 == hashlib.sha256(content).hexdigest()


@pytest.fixture
def breaking() -> Iterator[Callable[[S3Server, int], str]]:
    """Makes a door to an S3 server that breaks the first few answers which are long, in the middle; its endpoint."""
    listeners: list[socket.socket] = []

    def pass_on(connection: socket.socket, server: S3Server, breaks: list[int]) -> None:
        host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
        with connection, socket.create_connection((host, int(port))) as behind:
            threading.Thread(target=pump, args=(connection, behind, None), daemon=True).start()
            pump(behind, connection, breaks)

    def pump(source: socket.socket, target: socket.socket, breaks: list[int] | None) -> None:
        passed = 0
        with suppress(OSError):
            while block := source.recv(1 << 16):
                target.sendall(block)
                passed += len(block)
                if breaks and passed > 1 << 20:
                    breaks.pop()
                    break
            target.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket, server: S3Server, breaks: list[int]) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(
                    target=pass_on, args=(listener.accept()[0], server, breaks), daemon=True
                ).start()

    def start(server: S3Server, times: int) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, server, [0] * times), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.fixture
def service() -> Iterator[Callable[[bytes | None], str]]:
    """Makes a service that answers every connection with the same bytes, or with silence; its endpoint."""
    listeners: list[socket.socket] = []
    connections: list[socket.socket] = []

    def serve(listener: socket.socket, answer: bytes | None) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if answer is None:
                connections.append(connection)
                continue
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    def start(answer: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)  # else a thread that waits in accept would keep it open
        each.close()
    for each in connections:
        each.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "credentials"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "answered with an error"),
        (b"SSH-2.0-server\r\n", "did not answer"),
    ],
)
def test_a_service_that_refuses_is_unreachable(
    answer: bytes, words: str, service: Callable[[bytes | None], str], folder: Path, policy: Policy
) -> None:
    """Its own words, which may hold anything, are not repeated."""
    storage = policy.storage.model_copy(update={"endpoint": service(answer)})
    error = failure("s3://opened/a.onnx", folder, replace(policy, storage=storage))
    assert (error.code, words in error.message) == ("artifact_unreachable", True), error.message


def test_the_deadline_holds_while_the_client_waits(
    service: Callable[[bytes | None], str], folder: Path, policy: Policy
) -> None:
    """A silent service: its thread is still in the call when whoever fetches has the error, and no file is left."""
    before = set(threading.enumerate())
    storage = policy.storage.model_copy(update={"endpoint": service(None)})
    impatient = Timeouts(connect_s=5, read_s=60, total_s=0.5)
    error = failure("s3://opened/a.onnx", folder, replace(policy, storage=storage), timeouts=impatient)
    assert (error.code, "within 0.5 s" in error.message) == ("artifact_unreachable", True)
    waiting = [
        each for each in threading.enumerate() if each not in before and each.name.startswith("object")
    ]
    assert len(waiting) == 1, "the client was waited for"


def test_spellings_of_one_object_are_one(policy: Policy) -> None:
    """Escapes are decoded once, as in file URLs; what is checked is what is read."""
    plain = check_url("s3://opened/a%20b/%C3%A9%252F.csv", policy)
    assert plain == check_url("S3://opened/%61%20b/é%252F.csv", policy)
    assert (plain.object_path, plain.file_name) == ("opened/a b/é%2F.csv", "é%2F.csv")
    assert parse_url(plain.shown) == plain
