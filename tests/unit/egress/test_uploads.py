"""`fyre://files/<id>`: an organization's own uploads, and no way to anything else."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import StoredFile
from fyretoolkit.core.ids import new_id
from fyretoolkit.egress.fetch import Fetched, Timeouts, fetch
from fyretoolkit.egress.local import local_folder, open_local
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.egress.urls import ParsedUrl, Policy, Purpose, check_url, join_url, parse_url, policy_from
from fyretoolkit.settings import Settings
from tests.support.uploads import new_file

CONTENT = b"text\nfine\n"


class Records:
    """Records by organization and id."""

    def __init__(self, *files: StoredFile) -> None:
        self._files = {(file.org, file.id): file for file in files}

    async def get(self, org: str, file_id: str) -> StoredFile | None:
        return self._files.get((org, file_id))


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """Production: nothing but https and uploads."""
    settings = Settings.model_validate({"home": tmp_path, "mode": "production", "redis_url": "unix:///x"})
    return policy_from(settings)


@pytest.fixture
def stored(tmp_path: Path) -> StoredFile:
    """A file whose content is on the disk."""
    file = new_file(CONTENT, filename="my rows.csv")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / file.id).write_bytes(CONTENT)
    (tmp_path / "job").mkdir()
    return file


def take(
    url: str, tmp_path: Path, policy: Policy, *files: StoredFile, org: str = "org_a", max_bytes: int = 100
) -> Fetched:
    uploads = Uploads(org, Records(*files), tmp_path / "files")
    return asyncio.run(
        fetch(
            url, tmp_path / "job" / "input", policy=policy, max_bytes=max_bytes, timeouts=Timeouts(10, 10, 60),
            uploads=uploads, not_found_code="input_not_found", unreachable_code="input_unreachable",
            too_large_code="input_too_large",
        )
    )  # fmt: skip


def url_of(file: StoredFile) -> str:
    return f"fyre://files/{file.id}"


def test_an_upload_is_taken_without_a_copy(stored: StoredFile, tmp_path: Path, policy: Policy) -> None:
    """It has its own name and digest, and outlives the upload's deletion. Taken twice, it is there once."""
    upload = tmp_path / "files" / stored.id
    for _ in range(2):
        fetched = take(url_of(stored), tmp_path, policy, stored)
    assert fetched == Fetched(
        tmp_path / "job" / "input", len(CONTENT), stored.sha256, None, None, url_of(stored), "my rows.csv"
    )
    assert fetched.path.samefile(upload)
    upload.unlink()
    assert fetched.path.read_bytes() == CONTENT
    assert list(fetched.path.parent.iterdir()) == [fetched.path]


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM])
def test_across_file_systems_it_is_copied(
    stored: StoredFile, tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(reason, "cannot link")

    monkeypatch.setattr(os, "link", refuse)
    fetched = take(url_of(stored), tmp_path, policy, stored)
    assert not fetched.path.samefile(tmp_path / "files" / stored.id)
    assert (fetched.path.read_bytes(), fetched.sha256, fetched.name) == (
        CONTENT,
        stored.sha256,
        "my rows.csv",
    )
    assert list(fetched.path.parent.iterdir()) == [fetched.path]


@pytest.mark.parametrize("case", ["foreign", "unknown", "no uploads", "no content"])
def test_what_is_not_there_is_not_found(
    case: str, stored: StoredFile, tmp_path: Path, policy: Policy
) -> None:
    """Another organization's, none at all, and one whose content was removed a moment ago."""
    org = "org_b" if case == "foreign" else "org_a"
    records = () if case in ("unknown", "no uploads") else (stored,)
    if case == "no content":
        (tmp_path / "files" / stored.id).unlink()
    with pytest.raises(PlatformError) as caught:
        take(url_of(stored), tmp_path, policy, *records, org=org)
    assert caught.value.code == "input_not_found"
    assert "deleted or has expired" in caught.value.message
    assert list((tmp_path / "job").iterdir()) == []


def test_the_limit_holds(stored: StoredFile, tmp_path: Path, policy: Policy) -> None:
    with pytest.raises(PlatformError) as caught:
        take(url_of(stored), tmp_path, policy, stored, max_bytes=len(CONTENT) - 1)
    assert caught.value.code == "input_too_large"
    assert list((tmp_path / "job").iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "fyre://files/",
        "fyre://files/../jobs/x",
        "fyre://files/file_x",
        "fyre://files/job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "fyre://files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV/content",
        "fyre://files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV?a=b",
        "fyre://files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV#a",
        "fyre://files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV%2F..",
        "fyre://user@files/file_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "fyre://files:80/file_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "fyre:///file_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "fyre://models/digits",
    ],
)
def test_nothing_but_an_id_is_taken(url: str, policy: Policy) -> None:
    """Whatever does not have its exact shape never becomes a name on the disk."""
    with pytest.raises(PlatformError) as caught:
        check_url(url, policy)
    assert caught.value.code == "url_not_allowed"
    assert "fyre://files/<id>" in caught.value.message


def test_the_url_of_an_upload_has_parts() -> None:
    file_id = new_id("file")
    parsed = parse_url(f"FYRE://files/{file_id}")
    assert parsed == ParsedUrl("fyre", "files", None, f"/{file_id}")
    assert (parsed.file_name, parsed.shown) == (file_id, f"fyre://files/{file_id}")


@pytest.mark.parametrize("mode", ["development", "production"])
def test_uploads_are_sources_and_never_webhooks(mode: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "mode": mode, "redis_url": "unix:///x"})
    url = url_of(new_file())
    assert check_url(url, policy_from(settings)).scheme == "fyre"
    with pytest.raises(PlatformError, match="url_not_allowed"):
        check_url(url, policy_from(settings, Purpose.WEBHOOK))


def test_no_redirect_leads_to_an_upload(policy: Policy) -> None:
    """A server elsewhere must not choose what is read here."""
    origin = parse_url("https://example.com/a")
    target = join_url(origin, url_of(new_file()))
    with pytest.raises(PlatformError, match="url_not_allowed"):
        check_url(target.shown, policy.after(origin))


def test_an_upload_is_no_local_file(policy: Policy) -> None:
    """The functions for `file://` do not take it for one."""
    url = url_of(new_file())
    assert local_folder(parse_url(url), policy) is None
    with pytest.raises(PlatformError, match="url_not_allowed"):
        open_local(url, policy)
