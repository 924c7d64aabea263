"""`/files`, and `fyre://files/<id>` where a URL is taken."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.core.ids import new_id
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.schemas.files import FileResource
from fyretoolkit.settings import FileSettings, Settings
from fyretoolkit.store import keys
from tests.support.api_bench import REGION, Bench
from tests.support.onnx_graphs import lookup

pytestmark = pytest.mark.anyio

ROWS = b"text\nfine\nawful\n"
MAX_BYTES = 3_000_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Files of at most 3 MB, and no disk that is ever too full."""
    return settings.model_copy(update={"files": FileSettings(max_bytes=MAX_BYTES, min_free_bytes=0)})


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def _paths(response: Any) -> list[str]:
    return [field["path"] for field in response.json()["error"]["details"]["fields"]]


async def _upload(bench: Bench, content: bytes = ROWS, name: str = "rows.csv", **options: Any) -> Any:
    return await bench.request("POST", "/files", content=content, params={"filename": name}, **options)


def _on_disk(bench: Bench) -> set[str]:
    folder = bench.services.settings.files_dir
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


async def test_a_raw_body_becomes_a_file(bench: Bench) -> None:
    """Every field of the resource, its place, its bytes on the disk under its id."""
    response = await _upload(bench)
    file = FileResource.model_validate(response.json())
    assert response.status_code == 201
    assert response.headers["location"] == f"/files/{file.id}"
    assert (file.size_bytes, file.filename) == (len(ROWS), "rows.csv")
    assert file.sha256 == hashlib.sha256(ROWS).hexdigest()
    assert file.expires_at == file.created + 30 * 86_400
    assert _on_disk(bench) == {file.id}
    assert (await bench.request("GET", f"/files/{file.id}")).json() == response.json()
    assert (await bench.request("GET", f"/files/{file.id}/content")).content == ROWS


async def test_a_form_names_its_file_itself(bench: Bench) -> None:
    """As curl -F and a browser send it; the query goes before the form's name."""
    named = await bench.request("POST", "/files", files={"file": ("C:\\data\\rows.csv", ROWS)})
    chosen = await bench.request(
        "POST", "/files", files={"file": ("rows.csv", ROWS)}, params={"filename": "x.txt"}
    )
    assert (named.status_code, named.json()["filename"], named.json()["sha256"]) == (
        201, "rows.csv", hashlib.sha256(ROWS).hexdigest(),
    )  # fmt: skip
    assert chosen.json()["filename"] == "x.txt"


async def test_a_file_without_a_name_is_an_upload(bench: Bench) -> None:
    response = await bench.request("POST", "/files", content=ROWS, headers={"content-type": "text/csv"})
    assert response.json()["filename"] == "upload"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"data": {"file": ""}, "files": {"other": b"x"}}, "other"),
        ({"files": {"other": ("a", b"x")}}, "other"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, "file"),
        ({"content": b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "file"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "body"),
        ({"content": b"text", "headers": {"content-type": "multipart/form-data; boundary=b"}}, "body"),
        ({"content": b"text", "headers": {"content-type": "multipart/form-data"}}, "body"),
    ],
)
async def test_a_form_that_is_not_one_file_is_400(bench: Bench, options: dict[str, Any], path: str) -> None:
    """It says which part is at fault, and leaves nothing behind."""
    response = await bench.request("POST", "/files", **options)
    assert _code(response) == (400, "invalid_request")
    assert _paths(response) == [path]
    assert _on_disk(bench) == set()


@pytest.mark.parametrize("options", [{"content": b""}, {"files": {"file": ("a", b"")}}])
async def test_an_empty_file_is_400(bench: Bench, options: dict[str, Any]) -> None:
    response = await bench.request("POST", "/files", **options)
    assert _code(response) == (400, "invalid_request")
    assert "empty" in response.json()["error"]["message"]
    assert _on_disk(bench) == set()


async def test_a_compressed_transfer_is_415(bench: Bench) -> None:
    """Whether to keep or to unpack it could only be guessed."""
    assert _code(await _upload(bench, headers={"content-encoding": "gzip"})) == (
        415,
        "unsupported_media_type",
    )


async def test_the_cap_holds_declared_or_not(bench: Bench) -> None:
    """A declared size is refused before a byte is read; without one, the byte too many is."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BYTES:
            sent += 100_000
            yield bytes(100_000)

    declared = await _upload(bench, bytes(MAX_BYTES + 1))
    streamed = await bench.request("POST", "/files", content=chunks())
    assert _code(declared) == _code(streamed) == (413, "payload_too_large")
    assert MAX_BYTES < sent <= MAX_BYTES + 200_000
    assert _on_disk(bench) == set()
    assert (await _upload(bench, bytes(MAX_BYTES))).status_code == 201
    assert (await bench.request("POST", "/files", files={"file": bytes(MAX_BYTES)})).status_code == 201


async def test_a_full_disk_is_507(bench: Bench, settings: Settings) -> None:
    """Refused while there is room left for Redis, with a code that says so."""
    full = settings.model_copy(update={"files": FileSettings(min_free_bytes=1 << 60)})
    bench.app.state.services = replace(bench.services, settings=full)
    assert _code(await _upload(bench)) == (507, "storage_full")
    assert _on_disk(bench) == set()


async def test_a_client_that_goes_away_leaves_nothing(bench: Bench) -> None:
    """Neither a file nor a record, whether the server says so or cancels the request."""
    for ending in ("disconnect", "cancel"):
        is_halfway, goes_away = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(_send_half(bench, is_halfway, goes_away))
        await is_halfway.wait()
        assert len(_on_disk(bench)) == 1
        if ending == "cancel":
            task.cancel()
        goes_away.set()
        await asyncio.wait({task})
        assert _on_disk(bench) == set(), ending
    assert (await bench.request("GET", "/files")).json()["data"] == []


async def _send_half(bench: Bench, is_halfway: asyncio.Event, goes_away: asyncio.Event) -> None:
    """A POST over plain ASGI whose body stops in the middle."""
    chunks = [ROWS * 100_000]

    async def receive() -> dict[str, Any]:
        if chunks:
            return {"type": "http.request", "body": chunks.pop(), "more_body": True}
        is_halfway.set()
        await goes_away.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(f"nobody is there to hear {message}")

    key = "Bearer sk_live_demo_12345"
    scope = {
        "type": "http", "method": "POST", "path": "/files", "raw_path": b"/files", "query_string": b"",
        "headers": [(b"authorization", key.encode())], "scheme": "http", "http_version": "1.1",
        "server": ("api.localhost", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await bench.app(scope, receive, send)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("a\u202e\x00\nb.csv", "ab.csv"),
        ("..", "upload"),
        ("über den Wolken.csv", "über den Wolken.csv"),
    ],
)
async def test_a_name_is_a_name_and_no_path(bench: Bench, sent: str, stored: str) -> None:
    """The download carries it, whatever characters it holds."""
    file = (await _upload(bench, name=sent)).json()
    assert file["filename"] == stored
    response = await bench.request("GET", f"/files/{file['id']}/content")
    assert response.status_code == 200
    assert response.headers["content-disposition"].startswith("attachment")


async def test_a_download_can_be_resumed(bench: Bench) -> None:
    """One range, with the digest as the ETag; never as a type that a browser would run."""
    file = (await _upload(bench, name="page.html")).json()
    url = f"/files/{file['id']}/content"
    whole = await bench.request("GET", url)
    assert whole.headers["etag"] == f'"{file["sha256"]}"'
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["x-content-type-options"] == "nosniff"
    resumed = {"range": "bytes=5-", "if-range": whole.headers["etag"]}
    part = await bench.request("GET", url, headers=resumed)
    assert (part.status_code, part.content) == (206, ROWS[5:])
    several = await bench.request("GET", url, headers={"range": "bytes=0-1,4-5"})
    assert (several.status_code, several.content) == (200, whole.content)
    assert several.headers["content-type"] == whole.headers["content-type"]
    beyond = await bench.request("GET", url, headers={"range": "bytes=99-"})
    assert _code(beyond) == (416, "range_not_satisfiable")
    assert (await bench.request("HEAD", url)).headers["content-length"] == str(len(ROWS))


async def test_a_list_is_newest_first_in_pages(bench: Bench) -> None:
    ids = [(await _upload(bench)).json()["id"] for _ in range(5)]
    first = (await bench.request("GET", "/files?limit=3")).json()
    rest = (await bench.request("GET", f"/files?limit=3&starting_after={ids[2]}")).json()
    assert ([file["id"] for file in first["data"]], first["has_more"]) == (ids[:1:-1], True)
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[1::-1], False)
    assert _code(await bench.request("GET", "/files?starting_after=x")) == (400, "invalid_cursor")
    await bench.request("DELETE", f"/files/{ids[2]}")
    again = (await bench.request("GET", f"/files?limit=3&starting_after={ids[2]}")).json()
    assert again == rest


async def test_a_deleted_file_is_gone(bench: Bench) -> None:
    """Record, list entry, bytes; a repetition is 404."""
    file = (await _upload(bench)).json()
    response = await bench.request("DELETE", f"/files/{file['id']}")
    assert response.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert _on_disk(bench) == set()
    for method, path in (("DELETE", ""), ("GET", ""), ("GET", "/content")):
        missing = await bench.request(method, f"/files/{file['id']}{path}")
        assert _code(missing) == (404, "file_not_found")
    assert (await bench.request("GET", "/files")).json()["data"] == []


async def test_an_expired_file_is_gone(bench: Bench) -> None:
    """Its record ends by itself; the list forgets it."""
    kept, ended = [(await _upload(bench)).json()["id"] for _ in range(2)]
    redis = bench.services.store.redis
    assert 0 < await redis.ttl(keys.file(DEMO_ORG, ended)) <= 30 * 86_400
    await redis.delete(keys.file(DEMO_ORG, ended))
    assert _code(await bench.request("GET", f"/files/{ended}/content")) == (404, "file_not_found")
    listed = (await bench.request("GET", "/files")).json()
    assert ([file["id"] for file in listed["data"]], listed["has_more"]) == ([kept], False)
    assert await redis.zrange(keys.files(DEMO_ORG), 0, -1) == [kept]


async def test_bytes_that_are_gone_are_a_missing_file(bench: Bench) -> None:
    """Deleted between the look at the record and the look at the disk: no defect."""
    file = (await _upload(bench)).json()
    (bench.services.settings.files_dir / file["id"]).unlink()
    assert _code(await bench.request("GET", f"/files/{file['id']}/content")) == (404, "file_not_found")


async def test_scopes(bench: Bench) -> None:
    """Reading reads, writing writes."""
    reader = await bench.add_key(DEMO_ORG, Scope.READ)
    writer = await bench.add_key(DEMO_ORG, Scope.WRITE)
    assert _code(await _upload(bench, key=reader)) == (403, "insufficient_scope")
    file = (await _upload(bench, key=writer)).json()["id"]
    for path in ("/files", f"/files/{file}", f"/files/{file}/content"):
        assert _code(await bench.request("GET", path, key=writer)) == (403, "insufficient_scope")
        assert (await bench.request("GET", path, key=reader)).status_code == 200
    assert _code(await bench.request("DELETE", f"/files/{file}", key=reader)) == (403, "insufficient_scope")


async def test_a_stranger_is_refused_before_the_body_is_read(bench: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    assert _code(await bench.request("POST", "/files", content=chunks(), key=None)) == (
        401,
        "invalid_api_key",
    )


@pytest.mark.parametrize("method_and_path", [("GET", ""), ("GET", "/content"), ("DELETE", "")])
async def test_a_foreign_file_is_an_unknown_one(bench: Bench, method_and_path: tuple[str, str]) -> None:
    """The same bytes but for the request id, and the file stays."""
    method, path = method_and_path
    file = (await _upload(bench)).json()["id"]
    stranger = await bench.add_key("org_other")
    answers = [
        (await bench.request(method, f"/files/{name}{path}", key=stranger, headers={"x-request-id": "r"}))
        for name in (file, new_id("file"), "file_x", "..%2Fdb")
    ]
    assert {(answer.status_code, answer.content) for answer in answers[:3]} == {(404, answers[1].content)}
    assert answers[3].status_code == 404
    assert _on_disk(bench) == {file}


async def test_the_same_key_and_content_is_one_file(bench: Bench) -> None:
    """The answer of the first call, and not the second copy; other bytes or another name are another request."""
    headers = {"idempotency-key": "k"}
    first = await _upload(bench, headers=headers)
    again = await _upload(bench, headers=headers)
    by_form = await bench.request("POST", "/files", files={"file": ("rows.csv", ROWS)}, headers=headers)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == by_form.headers["idempotent-replayed"] == "true"
    assert first.content == again.content == by_form.content
    assert again.headers["location"] == first.headers["location"]
    for other in (
        await _upload(bench, b"other", headers=headers),
        await _upload(bench, name="x", headers=headers),
    ):
        assert _code(other) == (409, "idempotency_key_reused")
    assert _on_disk(bench) == {first.json()["id"]}


async def test_simultaneous_uploads_with_one_key_are_one_file(bench: Bench) -> None:
    answers = await asyncio.gather(
        *(_upload(bench, ROWS * 1000, headers={"idempotency-key": "k"}) for _ in range(16))
    )
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert _on_disk(bench) == {answers[0].json()["id"]}


async def test_a_refused_upload_frees_its_key(bench: Bench) -> None:
    headers = {"idempotency-key": "k"}
    assert (await _upload(bench, b"", headers=headers)).status_code == 400
    assert (await _upload(bench, headers=headers)).status_code == 201
    malformed = await _upload(bench, headers={"idempotency-key": ""})
    assert _code(malformed) == (400, "invalid_request")


async def test_unknown_query_parameters_are_400(bench: Bench) -> None:
    response = await bench.request("POST", "/files", content=ROWS, params={"file_name": "a"})
    assert (response.status_code, _paths(response)) == (400, ["file_name"])


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "/batch/digits": ("input_url", {}),
    "/deployments": ("model_uri", {"region": REGION}),
}
both = pytest.mark.parametrize("path", BODIES)


async def _use(bench: Bench, path: str, url: str, **options: Any) -> Any:
    field, more = BODIES[path]
    return await bench.request("POST", path, json={field: url, **more}, **options)


@both
@pytest.mark.parametrize("mode", ["development", "production"])
async def test_an_upload_is_taken_where_a_url_is(bench: Bench, path: str, mode: str) -> None:
    """In production mode too: it is how data comes without a URL."""
    await bench.add_model("digits")
    settings = bench.services.settings.model_copy(update={"mode": mode})
    bench.app.state.services = replace(bench.services, settings=settings)
    file = (await _upload(bench, lookup(), name="My Model.onnx")).json()["id"]
    response = await _use(bench, path, f"fyre://files/{file}")
    assert response.status_code in (201, 202)
    if path == "/deployments":
        assert (response.json()["model"], response.json()["model_uri"]) == (
            "my-model", f"fyre://files/{file}",
        )  # fmt: skip
    else:
        assert response.json()["input_url"] == f"fyre://files/{file}"


@both
async def test_what_is_no_upload_of_the_organization_is_404(bench: Bench, path: str) -> None:
    """Unknown, foreign, deleted and malformed ones alike, naming the field."""
    await bench.add_model("digits")
    stranger = await bench.add_key("org_other")
    foreign, deleted = (await _upload(bench, key=stranger)).json()["id"], (await _upload(bench)).json()["id"]
    await bench.request("DELETE", f"/files/{deleted}")
    names = [new_id("file"), foreign, deleted, "", "x", f"{foreign}?a=b", f"{foreign}/content", "../jobs"]
    answers = [
        await _use(bench, path, f"fyre://files/{name}", headers={"x-request-id": "r"}) for name in names
    ]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert _code(answers[0]) == (404, "file_not_found")
    assert _paths(answers[0]) == [BODIES[path][0]]


@both
async def test_other_fyre_urls_are_not_allowed(bench: Bench, path: str) -> None:
    await bench.add_model("digits")
    response = await _use(bench, path, "fyre://jobs/job_x")
    assert _code(response) == (422, "url_not_allowed")
    assert _paths(response) == [BODIES[path][0]]


async def test_an_upload_is_no_webhook(bench: Bench) -> None:
    await bench.add_model("digits")
    file = (await _upload(bench)).json()["id"]
    response = await bench.request(
        "POST",
        "/batch/digits",
        json={"input_url": f"fyre://files/{file}", "webhook": f"fyre://files/{file}"},
    )
    assert _code(response) == (422, "url_not_allowed")
    assert _paths(response) == ["webhook"]


async def test_the_same_model_uploaded_again_is_no_conflict(bench: Bench, tmp_path: Path) -> None:
    """The id is in use by the same content; by other content it is 409 at once."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.onnx").write_bytes(lookup())
    first, again, other = [
        (await _upload(bench, content, name="m.onnx")).json()["id"]
        for content in (lookup(), lookup(), lookup() + b"\x00")
    ]
    model = await bench.add_model("m", org=DEMO_ORG, folder=package)
    await bench.services.store.redis.hset(
        keys.model(DEMO_ORG, model.id), "source_uri", f"fyre://files/{first}"
    )
    assert (await _use(bench, "/deployments", f"fyre://files/{again}")).status_code == 201
    assert _code(await _use(bench, "/deployments", f"fyre://files/{other}")) == (409, "model_conflict")
    await bench.request("DELETE", f"/files/{first}")
    assert (await _use(bench, "/deployments", f"fyre://files/{other}")).status_code == 201
