"""Files: brought here, used by name, gone when deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fyretoolkit.settings import FileSettings, Settings
from tests.support.api_bench import open_bench
from tests.support.conformance import GOOD, REGION, Caller, Organization, error_of, without_request_id
from tests.support.sentences import sentence

CONTENT = b"text\nan utterly compelling film\n"
CSV = {"content-type": "text/csv"}
UNKNOWN = "file_01ARZ3NDEKTSV4RRFFQ69G5FAV"
FIELDS = {"id", "object", "size_bytes", "sha256", "filename", "created", "expires_at"}


def posted(caller: Caller, **params: str) -> dict[str, Any]:
    """A new file from raw bytes."""
    return caller.made("/files", content=CONTENT, params=params, headers=CSV)


@pytest.fixture
def file(caller: Caller) -> dict[str, Any]:
    """A file of the shared organization."""
    return posted(caller, filename="film.csv")


@sentence("files-1", "files-3")
def test_raw_bytes(caller: Caller, file: dict[str, Any]) -> None:
    """With their digest and size, under the name given."""
    assert file.keys() == FIELDS
    assert (file["object"], file["filename"], file["size_bytes"]) == ("file", "film.csv", len(CONTENT))
    assert file["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert posted(caller)["filename"] == "upload"


@sentence("files-1", "files-2")
def test_multipart(caller: Caller) -> None:
    """As a browser's form and `curl -F file=@…` send it."""
    answer = caller.post("/files", files={"file": ("form.csv", CONTENT, "text/csv")})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/files/{made['id']}"
    assert (made["filename"], made["size_bytes"]) == ("form.csv", len(CONTENT))
    assert made["sha256"] == hashlib.sha256(CONTENT).hexdigest()


@sentence("files-2")
@pytest.mark.parametrize(
    "files",
    [
        {"other": ("a.csv", CONTENT)},
        [("file", ("a.csv", CONTENT)), ("file", ("b.csv", CONTENT))],
        [("file", ("a.csv", CONTENT)), ("note", (None, "x"))],
    ],
)
def test_another_form(caller: Caller, files: Any) -> None:
    """No part named file, two of them, something beside it."""
    error_of(caller.post("/files", files=files), 400, "invalid_request")


@sentence("files-4")
def test_idempotency(caller: Caller) -> None:
    """Over name and content, whichever way they came."""
    key = {"idempotency-key": f"file-{hashlib.sha256(caller.key.encode()).hexdigest()[:8]}"}  # type: ignore[union-attr]
    first = caller.post("/files", content=CONTENT, params={"filename": "a.csv"}, headers={**CSV, **key})
    again = caller.post("/files", files={"file": ("a.csv", CONTENT, "text/csv")}, headers=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    for content, name in ((CONTENT, "b.csv"), (CONTENT + b"x", "a.csv")):
        reused = caller.post("/files", content=content, params={"filename": name}, headers={**CSV, **key})
        error_of(reused, 409, "idempotency_key_reused")


@sentence("files-5")
def test_empty(caller: Caller) -> None:
    """Either way."""
    error_of(caller.post("/files", content=b"", headers=CSV), 400, "invalid_request")
    error_of(caller.post("/files", files={"file": ("a.csv", b"")}), 400, "invalid_request")


@sentence("files-6", "files-7")
@pytest.mark.anyio
async def test_configured_size_and_life(settings: Settings) -> None:
    """The largest that fits, and one byte more; both figures are the operator's."""
    small = settings.model_copy(update={"files": FileSettings(max_bytes=1000, ttl_s=77)})
    async with open_bench(small) as bench:
        made = await bench.request("POST", "/files", content=b"x" * 1000, headers=CSV)
        assert made.status_code == 201
        assert made.json()["expires_at"] == made.json()["created"] + 77
        refused = await bench.request("POST", "/files", content=b"x" * 1001, headers=CSV)
        error_of(refused, 413, "payload_too_large")


@sentence("files-8")
def test_list_and_get(caller: Caller, file: dict[str, Any]) -> None:
    """The same object everywhere."""
    assert caller.read(f"/files/{file['id']}") == file
    assert caller.read("/files", params={"limit": 1})["data"] == [file]


@sentence("files-9")
def test_content(caller: Caller, file: dict[str, Any]) -> None:
    """Whole, in part, and not beyond the end."""
    path = f"/files/{file['id']}/content"
    assert caller.get(path).content == CONTENT
    part = caller.get(path, headers={"range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, CONTENT[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(CONTENT)}"
    error_of(caller.get(path, headers={"range": "bytes=5000-"}), 416, "range_not_satisfiable")


@sentence("files-10", "files-15")
def test_deletion(caller: Caller, file: dict[str, Any]) -> None:
    """Once; then it is as if it had never been."""
    path = f"/files/{file['id']}"
    answer = caller.delete(path)
    assert (answer.status_code, answer.json()) == (200, {"id": file["id"], "object": "file", "deleted": True})
    for gone in (caller.delete(path), caller.get(path), caller.get(f"{path}/content")):
        error_of(gone, 404, "file_not_found")
    assert file["id"] not in [each["id"] for each in caller.read("/files", params={"limit": 100})["data"]]


@sentence("files-11")
def test_as_the_input_of_a_job(jobs: dict[str, dict[str, Any]]) -> None:
    """Its name tells the format."""
    assert jobs["csv"]["input_url"].startswith("fyre://files/")
    assert jobs["csv"]["status"] == "completed"


@sentence("files-12")
def test_as_a_model(deployment: dict[str, Any]) -> None:
    """Fetched and served."""
    assert deployment["model_uri"].startswith("fyre://files/")
    assert deployment["status"] == "ready"


@sentence("files-13")
def test_a_file_that_is_not_there(org: Organization, other: Organization) -> None:
    """Unknown and foreign alike, wherever a URL may be given, before anything begins."""
    foreign = other.caller.upload(CONTENT, "theirs.csv")
    for path, field in (
        ("/batch/sentiment-v1", "input_url"),
        ("/deployments", "model_uri"),
        ("/models", "model_uri"),
    ):
        extra = {"/deployments": {"region": REGION, "model_id": "x"}, "/models": {"id": "x"}}.get(path, {})
        answers = [
            org.caller.post(path, {field: uri, **extra}) for uri in (f"fyre://files/{UNKNOWN}", foreign)
        ]
        for answer in answers:
            error_of(answer, 404, "file_not_found")
        if len(UNKNOWN) == len(foreign.rpartition("/")[2]):
            assert len({without_request_id(answer) for answer in answers}) == 1


@sentence("files-14")
def test_a_file_deleted_behind_its_job(caller: Caller) -> None:
    """Either it was fetched and the job is complete, or it was not and the job says so; nothing between."""
    uri = caller.upload(f"text\n{GOOD}\n".encode(), "short-lived.csv")
    job = caller.made("/batch/sentiment-v1", {"input_url": uri})
    assert caller.delete(f"/files/{uri.rpartition('/')[2]}").status_code == 200
    ended = caller.ended_job(job["id"])
    code = (ended["error"] or {}).get("code")
    assert (ended["status"], code) in (("completed", None), ("failed", "input_not_found"))
    assert ended["progress"]["processed"] == (1 if ended["status"] == "completed" else 0)


@sentence("files-16")
def test_scopes(org: Organization, file: dict[str, Any]) -> None:
    """Reading is not writing."""
    reader, writer = org.scoped("read"), org.scoped("write")
    path = f"/files/{file['id']}"
    for call in (reader.post("/files", content=CONTENT, headers=CSV), reader.delete(path)):
        error_of(call, 403, "insufficient_scope")
    for answer in (writer.get("/files"), writer.get(path), writer.get(f"{path}/content")):
        error_of(answer, 403, "insufficient_scope")
    assert reader.get(f"{path}/content").content == CONTENT
    assert writer.delete(path).status_code == 200


@sentence("files-17")
def test_a_stream(caller: Caller) -> None:
    """Three megabytes in pieces, their number not said."""

    def pieces() -> Iterator[bytes]:
        for number in range(300):
            yield bytes([number % 256]) * 10_000

    whole = b"".join(pieces())
    for options in ({"content": pieces(), "headers": CSV},):
        answer: httpx.Response = caller.post("/files", **options)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["size_bytes"], made["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
        assert caller.get(f"/files/{made['id']}/content").content == whole


@sentence("files-3")
@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.csv", "a\x00b"])
def test_a_name_is_no_path(caller: Caller, name: str) -> None:
    """Kept or refused, it leads nowhere."""
    answer = caller.post("/files", content=CONTENT, params={"filename": name}, headers=CSV)
    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        assert Path(answer.json()["filename"]).name == answer.json()["filename"]
