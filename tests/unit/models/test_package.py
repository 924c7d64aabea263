"""Opening packages: every form of one, and what a hostile archive may try."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.package import MAX_MEMBERS, open_package
from tests.support.onnx_graphs import echo

LIMIT = 1 << 20
GRAPH = echo("float32", ["N", 2])
MANIFEST = b"id: my-model\n"
Members = dict[str, bytes]


def zipped(path: Path, members: Members, **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = attributes.get("mode", 0o100644) << 16
            archive.writestr(entry, content)
    return path


def tarred(
    path: Path, members: Members, *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: str = "w:gz"
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(content))
    return path


def opened(path: Path, limit: int = LIMIT) -> tuple[bytes, str | None, bool]:
    """(model's bytes, manifest's id, whether there is a tokenizer)"""
    workdir = path.parent / "work"
    workdir.mkdir(exist_ok=True)
    files = open_package(path, workdir, limit)
    return files.onnx.read_bytes(), files.manifest.id if files.manifest else None, files.tokenizer is not None


def code_of(path: Path, limit: int = LIMIT) -> str:
    with pytest.raises(PlatformError) as caught:
        opened(path, limit)
    return caught.value.code


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("folder", ["", "./", "my-model/", "my-model/././"])
@pytest.mark.parametrize("name", ["upload", "model.zip", "model.tar.gz"])
def test_an_archive_of_a_package_by_content(
    tmp_path: Path, pack: Callable[[Path, Members], Path], folder: str, name: str
) -> None:
    """At the top or in one folder, whatever the archive is named; other files are left alone."""
    members = {
        f"{folder}model.onnx": GRAPH,
        f"{folder}model.yaml": MANIFEST,
        f"{folder}tokenizer.json": b"{}",
        f"{folder}README.md": b"#",
        f"{folder}notebooks/old/model.onnx": b"x",
        "__MACOSX/model.onnx": b"x",
    }
    assert opened(pack(tmp_path / name, members)) == (GRAPH, "my-model", True)


def test_a_folder_a_plain_tar_and_a_bare_model(tmp_path: Path) -> None:
    """A single .onnx of another name is the model."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "digits.onnx").write_bytes(GRAPH)
    (folder / "model.yaml").write_bytes(MANIFEST)
    assert opened(folder) == (GRAPH, "my-model", False)
    assert opened(folder / "digits.onnx") == (GRAPH, None, False)
    assert opened(tarred(tmp_path / "t.tar", {"model.onnx": GRAPH}, mode="w")) == (GRAPH, None, False)


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "/etc/model.onnx",
        "a/../../model.onnx",
        "..\\model.onnx",
        "C:model.onnx",
        "a/../model.onnx",
    ],
)
def test_a_member_that_climbs_refuses_the_archive(
    tmp_path: Path, pack: Callable[[Path, Members], Path], name: str
) -> None:
    """Nothing is written outside the work folder, be the member the model or not."""
    for members in ({name: GRAPH}, {"model.onnx": GRAPH, name.replace(".onnx", ".txt"): b"x"}):
        folder = tmp_path / f"case{len(members)}"
        folder.mkdir()
        assert code_of(pack(folder / "p", members)) == "invalid_package"
        assert {path.name for path in folder.rglob("*")} <= {"p", "work", "model.onnx"}
        assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_refuse_the_archive(tmp_path: Path, kind: bytes) -> None:
    """tar knows four ways not to be a file."""
    assert (
        code_of(tarred(tmp_path / "p", {"model.onnx": b""}, kind=kind, link="/etc/passwd"))
        == "invalid_package"
    )


def test_a_link_in_a_zip_or_a_folder_is_refused(tmp_path: Path) -> None:
    """A zip keeps it in the mode bits; a folder is used where it lies, so it must hold the files themselves."""
    mode = stat.S_IFLNK | 0o777
    assert code_of(zipped(tmp_path / "p", {"model.onnx": b"/etc/passwd"}, mode=mode)) == "invalid_package"
    for name in ("model.onnx", "model.yaml", "tokenizer.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(GRAPH)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/etc/hostname")
        assert code_of(folder) == "invalid_package"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_stops_at_the_limit(tmp_path: Path, pack: Callable[[Path, Members], Path]) -> None:
    """50 MB of zeros in 50 kB: in the model, or in a member that only has to be skipped."""
    assert code_of(pack(tmp_path / "p", {"model.onnx": bytes(50 << 20)})) == "artifact_too_large"
    written = sum(path.stat().st_size for path in (tmp_path / "work").iterdir())
    assert written <= LIMIT
    assert (
        code_of(tarred(tmp_path / "q", {"junk": bytes(50 << 20), "model.onnx": GRAPH}))
        == "artifact_too_large"
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_is_unpacked_at_once_is_refused(tmp_path: Path, compression: int) -> None:
    """871 bytes of bzip2 became 2 GB in memory before the first of them was counted."""
    with zipfile.ZipFile(tmp_path / "p", "w", compression) as archive:
        archive.writestr("model.onnx", GRAPH)
    with pytest.raises(PlatformError, match="deflate") as refused:
        opened(tmp_path / "p")
    assert refused.value.code == "invalid_package"


def test_a_directory_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Two million entries of 47 bytes were 840 MB of objects before they were counted."""
    whole = zipped(tmp_path / "z", {"a": b""}).read_bytes()
    directory, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    count = (5 << 20) // (end - directory)
    size = count * (end - directory)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, directory, 0)
    (tmp_path / "p").write_bytes(whole[:directory] + whole[directory:end] * count + tail)
    tracemalloc.start()
    try:
        assert code_of(tmp_path / "p") == "invalid_package"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def header(kind: bytes, size: int) -> bytes:
    """A header block of a tar."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_is_too_large_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """It is read at once: 2 MB of gzip were 1 GB."""
    (tmp_path / "p").write_bytes(gzip.compress(header(kind, 8 << 20) + bytes(8 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(PlatformError, match="unreasonable length") as refused:
            opened(tmp_path / "p", limit=64 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.code == "invalid_package"


@pytest.mark.parametrize("is_pax", [False, True])
def test_a_sparse_file_is_refused_before_its_map_is_read(tmp_path: Path, is_pax: bool) -> None:
    """A map of 400 MB took minutes, for what is refused in any case."""
    fields = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "m",
        "GNU.sparse.realsize": "1",
    }
    if is_pax:
        entry = tarfile.TarInfo("model.onnx")
        entry.pax_headers, entry.size = fields, 1 << 20
        content = entry.tobuf(tarfile.PAX_FORMAT) + (b"500000\n" + b"1\n" * (1 << 20))[: 1 << 20]
    else:
        content = header(tarfile.GNUTYPE_SPARSE, 0)
    (tmp_path / "p").write_bytes(gzip.compress(content + bytes(1024)))
    tracemalloc.start()
    try:
        with pytest.raises(PlatformError, match="sparse file") as refused:
            opened(tmp_path / "p", limit=64 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.code == "invalid_package"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_name_that_no_disk_takes_is_refused(tmp_path: Path, pack: Callable[[Path, Members], Path]) -> None:
    """It ended as an error of our own disk, and was tried again."""
    assert code_of(pack(tmp_path / "p", {"m" * 300 + ".onnx": GRAPH})) == "invalid_package"


def test_a_zip_whose_header_lies_about_the_size_is_refused(tmp_path: Path) -> None:
    """The announced size is not believed."""
    path = zipped(tmp_path / "p", {"model.onnx": bytes(50 << 20)})
    content = path.read_bytes().replace((50 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    assert code_of(path) in {"invalid_package", "artifact_too_large"}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_too_many_members_are_refused(tmp_path: Path, pack: Callable[[Path, Members], Path]) -> None:
    """A count, since each costs time even if empty."""
    members = {f"file{index}": b"" for index in range(MAX_MEMBERS + 1)}
    assert code_of(pack(tmp_path / "p", members)) == "invalid_package"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_two_packages_in_one_archive_are_refused(
    tmp_path: Path, pack: Callable[[Path, Members], Path]
) -> None:
    """Which one was meant is not guessed."""
    assert code_of(pack(tmp_path / "p", {"a/model.onnx": GRAPH, "b/model.onnx": GRAPH})) == "invalid_package"
    (tmp_path / "work" / "model.onnx").unlink()
    assert code_of(pack(tmp_path / "q", {"a.onnx": GRAPH, "b.onnx": GRAPH})) == "invalid_package"


def test_damaged_archives_and_empty_packages(tmp_path: Path) -> None:
    """A cut archive, one byte changed, no model, an archive in name alone, nothing at all."""
    whole = zipped(tmp_path / "z", {"model.onnx": GRAPH * 50}).read_bytes()
    gz = tarred(tmp_path / "t", {"model.onnx": GRAPH * 50}).read_bytes()
    for number, content in enumerate(
        (whole[:-30], whole[:60] + b"\xff" + whole[61:], gz[:-20], gz[:40], b"\x1f\x8b")
    ):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        (folder / "p").write_bytes(content)
        assert code_of(folder / "p") == "invalid_package", number
    assert code_of(zipped(tmp_path / "e", {"README.md": b""})) == "invalid_package"
    (tmp_path / "model.zip").write_bytes(GRAPH)
    assert code_of(tmp_path / "model.zip") == "invalid_package"
    assert code_of(tmp_path / "nowhere") == "artifact_not_found"


def test_a_bad_manifest_and_a_package_over_the_limit(tmp_path: Path) -> None:
    """Both show before the model is looked at."""
    assert code_of(zipped(tmp_path / "m", {"model.onnx": GRAPH, "model.yaml": b"x: 1"})) == "invalid_manifest"
    (tmp_path / "bare.onnx").write_bytes(GRAPH)
    assert code_of(tmp_path / "bare.onnx", limit=len(GRAPH) - 1) == "artifact_too_large"


def test_random_bytes_are_left_to_the_inspection(tmp_path: Path) -> None:
    """A corrupt .onnx is an invalid model, not an invalid package: nothing says it was meant as one."""
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    assert opened(tmp_path / "model.onnx") == (b"not a model", None, False)
