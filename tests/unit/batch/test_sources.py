"""Staging: what is pinned stays pinned, what is packed is unpacked under caps."""

from __future__ import annotations

import gzip
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from batch.shards import Shard
from batch.sources import Source, stage, unpack
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.spool import Spool
from tests.support.disks import free_with
from tests.unit.batch.bench import Bench

ROWS = b'{"text": "a"}\n' * 5000


def pinned(path: Path) -> Source:
    """The file as it is now."""
    status = path.stat()
    return Source(str(path), status.st_size, status.st_mtime_ns, status.st_ino, name=path.name)


@pytest.mark.anyio
async def test_a_file_is_read_where_it_lies(bench: Bench, tmp_path: Path):
    """Nothing is copied; the pin survives the job's record."""
    path = bench.folder / "rows.jsonl"
    path.write_bytes(ROWS)
    async with bench.uploads() as uploads:
        source = await stage(f"file://{path}", tmp_path, bench.settings, uploads)
    assert source == pinned(path)
    assert Source.from_json(source.to_json()) == source
    assert source.read(Shard(0, 14, 28, 1, 2, 1)) == b'{"text": "a"}\n'


@pytest.mark.anyio
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_packed_input_is_known_by_its_content(bench: Bench, tmp_path: Path, codec: str):
    """Whatever its name says; several gzip members, or frames of zstd, are one input."""
    path = bench.folder / "rows.txt"
    halves = (ROWS[:28], ROWS[28:])
    packed = b"".join(
        gzip.compress(half) if codec == "gzip" else pa.compress(half, codec, asbytes=True) for half in halves
    )
    path.write_bytes(packed)
    async with bench.uploads() as uploads:
        source = await stage(f"file://{path}", tmp_path, bench.settings, uploads)
    assert Path(source.path) == tmp_path / "input"
    assert (tmp_path / "input").read_bytes() == ROWS
    assert path.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("is_packed", [False, True])
async def test_an_upload_is_staged_under_its_own_name(bench: Bench, tmp_path: Path, is_packed: bool):
    """In the job's folder, where it stays when the upload goes."""
    content = gzip.compress(ROWS) if is_packed else ROWS
    file = await bench.upload(content, "rows.jsonl.gz")
    async with bench.uploads() as uploads:
        source = await stage(f"fyre://files/{file.id}", tmp_path, bench.settings, uploads)
    (bench.settings.files_dir / file.id).unlink()
    assert source.name == "rows.jsonl.gz"
    assert Path(source.path).parent == tmp_path
    assert source.read(Shard(0, 0, len(ROWS), 0, 1, 5000)) == ROWS


@pytest.mark.anyio
async def test_an_input_that_changes_while_it_comes_ends_the_job(bench: Bench, tmp_path: Path):
    """The server breaks the connection, and has another file when it is asked again."""
    asked: list[str | None] = []

    class Changing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["If-Range"])
            self.send_response(200)
            self.send_header("ETag", f'"v{len(asked)}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(ROWS)))
            self.end_headers()
            self.wfile.write(ROWS[: 1000 if len(asked) == 1 else None])

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Changing) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/rows.jsonl"
        try:
            async with bench.uploads() as uploads:
                with pytest.raises(PlatformError) as caught:
                    await stage(url, tmp_path, bench.settings, uploads)
        finally:
            server.shutdown()
    assert (caught.value.code, asked) == ("input_changed", [None, '"v1"'])


GZIP, ZSTD = gzip.compress(ROWS), pa.compress(ROWS, "zstd", asbytes=True)
DAMAGED = {
    "header alone": ("gzip", GZIP[:5]),
    "without its last byte": ("gzip", GZIP[:-1]),
    "without its checksum": ("gzip", GZIP[:-8]),
    "another checksum": ("gzip", GZIP[:-6] + bytes([GZIP[-6] ^ 1]) + GZIP[-5:]),
    "a second member that is cut off": ("gzip", GZIP + GZIP[:-9]),
    "the magic number of a second member": ("gzip", GZIP + GZIP[:3]),
    "zeros behind it": ("gzip", GZIP + bytes(512)),
    "something else behind it": ("gzip", GZIP + ROWS),
    "zstd without its last byte": ("zstd", ZSTD[:-1]),
    "a second frame that is cut off": ("zstd", ZSTD + ZSTD[:-3]),
    "zstd with something else behind it": ("zstd", ZSTD + ROWS),
    "a window of 2 GiB": ("zstd", ZSTD[:4] + bytes([0, 21 << 3, 1, 0, 0])),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_packed_input_is_refused(tmp_path: Path, damage: str):
    """Whatever ends it but the end of its last member: a pipe that broke may have ended it anywhere."""
    codec, content = DAMAGED[damage]
    (tmp_path / "packed").write_bytes(content)
    with pytest.raises(PlatformError) as caught:
        unpack(tmp_path / "packed", tmp_path / "input", codec, max_bytes=1 << 30)
    assert caught.value.code == "invalid_format"
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_packed_input_of_any_size_takes_little_memory(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
):
    """It passes in blocks of a mebibyte at most."""
    sizes: list[int] = []
    write = Spool.write

    def noted(spool: Spool, chunk: bytes) -> None:
        sizes.append(len(chunk))
        write(spool, chunk)

    monkeypatch.setattr(Spool, "write", noted)
    content = b"0" * (48 << 20)
    packed = gzip.compress(content, 1) if codec == "gzip" else pa.compress(content, codec, asbytes=True)
    (tmp_path / "packed").write_bytes(packed)
    unpack(tmp_path / "packed", tmp_path / "input", codec, max_bytes=1 << 30)
    assert sum(sizes) == (tmp_path / "input").stat().st_size == 48 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_packed_input_that_is_cut_off_is_refused(tmp_path: Path, codec: str):
    """Never the rows up to there."""
    noise = os.urandom(100_000)
    packed = gzip.compress(noise) if codec == "gzip" else pa.compress(noise, codec, asbytes=True)
    path = tmp_path / "packed"
    path.write_bytes(packed[:-2000])
    with pytest.raises(PlatformError) as caught:
        unpack(path, tmp_path / "input", codec, max_bytes=1 << 30)
    assert caught.value.code == "invalid_format"
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]


def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its growth, long before the cap on bytes."""
    monkeypatch.setattr("batch.sources._FREE_GROWTH_BYTES", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"0" * (16 << 20)))
    with pytest.raises(PlatformError) as caught:
        unpack(path, tmp_path / "input", "gzip", max_bytes=1 << 40)
    assert caught.value.code == "input_too_large"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bomb.gz"]


@pytest.mark.parametrize("change", ["rewritten", "replaced", "grown", "removed"])
def test_a_change_shows_at_the_next_shard(tmp_path: Path, change: str):
    """Content of the same length, another file of the same time, one byte more, no file."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    source = pinned(path)
    match change:
        case "rewritten":
            path.write_bytes(ROWS)
            os.utime(path, ns=(source.mtime_ns, source.mtime_ns + 1))
        case "replaced":
            other = tmp_path / "other"
            other.write_bytes(ROWS)
            os.utime(other, ns=(source.mtime_ns, source.mtime_ns))
            other.replace(path)
        case "grown":
            with path.open("ab") as file:
                file.write(b"\n")
        case _:
            path.unlink()
    with pytest.raises(PlatformError, match="input_changed"):
        source.read(Shard(0, 0, 14, 0, 1, 1))


class Large(BaseHTTPRequestHandler):
    """Announces a gibibyte, and sends none of it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()


@pytest.mark.anyio
async def test_an_input_that_does_not_fit_is_refused_before_it_comes(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By its announced size: a mebibyte would fit, and the gibibyte would take Redis's share."""
    free_with(monkeypatch, bench.settings.files.min_free_bytes + (1 << 20))
    staged = tmp_path / "staged"
    staged.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Large)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/rows.jsonl"
    try:
        async with bench.uploads() as uploads:
            with pytest.raises(PlatformError) as caught:
                await stage(url, staged, bench.settings, uploads)
    finally:
        server.shutdown()
        server.server_close()
    assert caught.value.code == "storage_full"
    assert list(staged.iterdir()) == []


@pytest.mark.anyio
async def test_a_disk_with_its_reserve_alone_takes_no_packed_input(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What it grows to is not known before; nothing of it stays. A file that is read where it lies needs no room."""
    free_with(monkeypatch, bench.settings.files.min_free_bytes + len(ROWS) - 1)
    for name, content in (("rows.jsonl", ROWS), ("rows.jsonl.gz", gzip.compress(ROWS))):
        (bench.folder / name).write_bytes(content)
    staged = tmp_path / "staged"
    staged.mkdir()
    async with bench.uploads() as uploads:
        await stage(f"file://{bench.folder}/rows.jsonl", staged, bench.settings, uploads)
        with pytest.raises(PlatformError) as caught:
            await stage(f"file://{bench.folder}/rows.jsonl.gz", staged, bench.settings, uploads)
    assert caught.value.code == "storage_full"
    assert list(staged.iterdir()) == []
