"""Results beside the platform: there whole or not at all, and only where the operator says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from batch.assembly import Output
from batch.destinations import StoppedError, check_destination, deliver, names_of
from batch.parts import PartFile
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.urls import parse_url
from fyretoolkit.settings import PROJECT_ROOT, ArtifactSettings, EgressSettings, S3SourceSettings
from tests.support.disks import free_with
from tests.support.s3_server import S3Server
from tests.unit.batch.bench import Bench

RESULTS = b'{"index":0,"result":1}\n' * 1000
LARGE_BYTES = 12 << 20
"""More than one part of a multipart upload."""


def assembled(folder: Path, *, is_partial: bool = False, content: bytes = RESULTS) -> Output:
    """An output as `batch.assembly` leaves it."""
    files = []
    for name, data in (("output-1.jsonl", content), ("errors-1.jsonl", b"")):
        (folder / name).write_bytes(data)
        files.append(PartFile(name, len(data), hashlib.sha256(data).hexdigest()))
    return Output(files[0], files[1], is_partial)


def with_buckets(bench: Bench, s3: S3Server, *roots: str) -> Bench:
    """A platform that may write beneath these roots of the server."""
    storage = S3SourceSettings(**s3.settings, write_roots=roots)
    egress = EgressSettings(development_file_roots=(bench.folder,), s3=storage)
    return replace(bench, settings=bench.settings.model_copy(update={"egress": egress}))


def objects(s3: S3Server, bucket: str) -> dict[str, int]:
    """Key and size of what is visible in a bucket."""
    from pyarrow.fs import FileSelector

    found = s3.client().get_file_info(FileSelector(bucket, recursive=True))
    return {info.path.partition("/")[2]: info.size for info in found if info.is_file}


def unfinished(s3: S3Server, bucket: str) -> list[str]:
    """The keys of the uploads that are neither completed nor aborted."""
    listed = httpx.get(f"{s3.endpoint}/{bucket}?uploads", trust_env=False).text
    return re.findall("<Key>(.*?)</Key>", listed)


@pytest.mark.parametrize(
    ("url", "is_partial", "names"),
    [
        ("s3://bkt/x/scores.jsonl", False, ("s3://bkt/x/scores.jsonl", "s3://bkt/x/scores.errors.jsonl")),
        (
            "s3://bkt/scores.csv",
            True,
            ("s3://bkt/scores.partial.csv", "s3://bkt/scores.partial.errors.jsonl"),
        ),
        ("file:///d/scores.v2", False, ("file:///d/scores.v2", "file:///d/scores.v2.errors.jsonl")),
        ("s3://bkt/a%20b.jsonl", False, ("s3://bkt/a%20b.jsonl", "s3://bkt/a%20b.errors.jsonl")),
    ],
)
def test_the_names_of_results_errors_and_what_lacks_rows(
    url: str, is_partial: bool, names: tuple[str, str]
) -> None:
    """Who waits for the output never finds a partial one there."""
    found = names_of(parse_url(url), is_partial=is_partial)
    assert (found.results.shown, found.errors.shown) == names


def test_results_go_to_a_bucket(bench: Bench, s3: S3Server) -> None:
    """Both files, with their content and type; again, they are replaced."""
    s3.put("results/other", b"")
    allowed = with_buckets(bench, s3, "results/mine")
    for _ in range(2):
        deliver("s3://results/mine/scores.jsonl", bench.folder, assembled(bench.folder), allowed.settings)
    assert objects(s3, "results") == {
        "other": 0, "mine/scores.jsonl": len(RESULTS), "mine/scores.errors.jsonl": 0,
    }  # fmt: skip
    with s3.client().open_input_file("results/mine/scores.jsonl") as file:
        assert file.read() == RESULTS
        assert file.metadata()["Content-Type"] == b"application/jsonl"


def test_an_upload_that_ends_early_is_not_seen(bench: Bench, s3: S3Server) -> None:
    """Damage shows at the very end, after megabytes. The process's end does not complete them; the next run aborts."""
    s3.put("halves/other", b"")
    child = textwrap.dedent(
        f"""
        import os, pathlib
        from dataclasses import replace
        from pydantic import SecretStr
        from batch.destinations import deliver
        from fyretoolkit.core.errors import PlatformError
        from fyretoolkit.settings import EgressSettings, S3SourceSettings, Settings
        from tests.unit.batch.test_destinations import LARGE_BYTES, assembled
        folder = pathlib.Path({str(bench.folder)!r})
        storage = S3SourceSettings(**{s3.settings!r}, write_roots=("halves",))
        settings = Settings(home=folder, redis_url=SecretStr("redis://x"), egress=EgressSettings(s3=storage))
        output = assembled(folder, content=os.urandom(LARGE_BYTES))
        damaged = replace(output, results=replace(output.results, sha256="0" * 64))
        try:
            deliver("s3://halves/scores.jsonl", folder, damaged, settings)
        except PlatformError as error:
            print(error.code, flush=True)
        os._exit(0)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", child],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert ended.stdout == "run_failed\n", ended.stderr
    assert objects(s3, "halves") == {"other": 0, "scores.errors.jsonl": 0}
    assert unfinished(s3, "halves") == ["scores.jsonl"]
    allowed = with_buckets(bench, s3, "halves")
    deliver("s3://halves/scores.jsonl", bench.folder, assembled(bench.folder), allowed.settings)
    assert objects(s3, "halves")["scores.jsonl"] == len(RESULTS)
    assert unfinished(s3, "halves") == []


def test_a_storage_that_refuses_is_an_error_with_a_next_step(bench: Bench, s3: S3Server) -> None:
    """The bucket is open to writers and does not exist."""
    allowed = with_buckets(bench, s3, "no-such-bucket")
    with pytest.raises(PlatformError) as caught:
        deliver("s3://no-such-bucket/x.jsonl", bench.folder, assembled(bench.folder), allowed.settings)
    assert caught.value.code == "output_unreachable"
    assert "output_url" in caught.value.message


def test_results_go_to_a_file(bench: Bench) -> None:
    """Beneath the roots of development; nothing is left beside them, and others may read them."""
    folder = bench.folder / "out"
    folder.mkdir()
    deliver(f"file://{folder}/scores.jsonl", bench.folder, assembled(bench.folder), bench.settings)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
        "scores.jsonl": len(RESULTS), "scores.errors.jsonl": 0,
    }  # fmt: skip
    assert (folder / "scores.jsonl").stat().st_mode & 0o777 == 0o644


def test_a_file_leaves_the_reserve_of_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the disk that Redis writes to. The job has its own copy, so the destination alone is at fault."""
    folder = bench.folder / "out"
    folder.mkdir()
    output = assembled(bench.folder)
    free_with(monkeypatch, bench.settings.files.min_free_bytes + len(RESULTS) - 1)
    with pytest.raises(PlatformError) as caught:
        deliver(f"file://{folder}/scores.jsonl", bench.folder, output, bench.settings)
    assert caught.value.code == "output_unreachable"
    assert "no room" in caught.value.message
    assert [path.name for path in folder.iterdir()] == ["scores.errors.jsonl"]


def test_a_run_that_is_stopped_leaves_nothing(bench: Bench) -> None:
    """Neither the output nor what was written of it aside."""
    stop = threading.Event()
    stop.set()
    folder = bench.folder / "out"
    folder.mkdir()
    with pytest.raises(StoppedError):
        deliver(f"file://{folder}/x.jsonl", bench.folder, assembled(bench.folder), bench.settings, stop)
    assert list(folder.iterdir()) == []


def test_a_link_does_not_lead_out_of_the_roots(bench: Bench, tmp_path: Path) -> None:
    """The folder is beneath a root by its name alone."""
    (bench.folder / "link").symlink_to(tmp_path)
    with pytest.raises(PlatformError) as caught:
        deliver(f"file://{bench.folder}/link/x.jsonl", bench.folder, assembled(bench.folder), bench.settings)
    assert caught.value.code == "url_not_allowed"
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(
    "url",
    [
        "s3://results/x.jsonl",  # beside the root
        "s3://results/mine/",
        "s3://results/mineral/x.jsonl",
        "s3://results/mine/artifacts/x.jsonl",
        "https://example.com/x.jsonl",
        "fyre://files/file_01M82FQ0A1B2C3D4E5F6G7H8J9",
        "scores.jsonl",
        "file:///etc/x.jsonl",
    ],
)
def test_what_may_not_be_written_to(bench: Bench, url: str) -> None:
    """Only what the operator listed, and never where the platform keeps its own."""
    settings = bench.settings.model_copy(
        update={
            "egress": EgressSettings(
                development_file_roots=(bench.folder,),
                s3=S3SourceSettings(roots=("results",), write_roots=("results/mine",)),
            ),
            "artifacts": ArtifactSettings(url="s3://results/mine/artifacts"),
        }
    )
    with pytest.raises(PlatformError) as caught:
        check_destination(url, settings)
    assert caught.value.code == "url_not_allowed"


def test_nothing_is_open_by_itself(bench: Bench) -> None:
    """Production knows no files, and no bucket that is not named."""
    settings = bench.settings.model_copy(update={"mode": "production", "egress": EgressSettings()})
    for url in ("s3://results/x.jsonl", f"file://{bench.folder}/x.jsonl"):
        with pytest.raises(PlatformError, match="url_not_allowed"):
            check_destination(url, settings)
