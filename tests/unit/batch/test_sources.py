"""Staging: what is pinned stays pinned, what is packed is unpacked under caps."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest

from batch.shards import Shard
from batch.sources import Source, stage, unpack
from fyretoolkit.core.errors import PlatformError
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
    """Whatever its name says; two gzip members are one input."""
    path = bench.folder / "rows.txt"
    halves = (ROWS[:28], ROWS[28:])
    packed = (
        b"".join(map(gzip.compress, halves)) if codec == "gzip" else pa.compress(ROWS, codec, asbytes=True)
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


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_packed_input_that_is_cut_off_is_refused(tmp_path: Path, codec: str):
    """Never the rows up to there."""
    noise = os.urandom(100_000)
    packed = gzip.compress(noise) if codec == "gzip" else pa.compress(noise, codec, asbytes=True)
    path = tmp_path / "packed"
    path.write_bytes(packed[:-2000])
    with pytest.raises(PlatformError) as caught:
        unpack(path, tmp_path / "input", codec, 1 << 30)
    assert caught.value.code == "invalid_format"
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]


def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its growth, long before the cap on bytes."""
    monkeypatch.setattr("batch.sources._FREE_GROWTH_BYTES", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"0" * (16 << 20)))
    with pytest.raises(PlatformError) as caught:
        unpack(path, tmp_path / "input", "gzip", 1 << 40)
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
