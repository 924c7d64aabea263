"""Reading what is committed: the same bytes as the assembled file, from any place on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import assembly
from batch.assembly import assemble
from batch.committed import Committed
from batch.parts import Part, PartLines, write_part
from fyretoolkit.core.errors import PlatformError


def parts_of(folder: Path, counts: list[int], texts: str = "a,b\n") -> list[Part]:
    """A part for each count of results, with an error line behind them."""
    parts, index = [], 0
    for shard, count in enumerate(counts):
        lines = PartLines()
        for _ in range(count):
            lines.add_result(index, index, {"label": texts, "score": index / 3})
            index += 1
        lines.add_error(index, index + 1, None, "invalid_row", texts)
        index += 1
        parts.append(write_part(folder, shard, 1, lines))
    return parts


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    texts=st.text(max_size=5),
    start=st.integers(0, 400),
    block_bytes=st.integers(1, 300),
    form=st.sampled_from(["jsonl", "csv"]),
)
def test_it_reads_as_the_file_will(
    counts: list[int], texts: str, start: int, block_bytes: int, form: str
) -> None:
    """Assembly is the oracle: any parts, any start, any size of block; a file of no results has no CSV header yet."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(assembly, "_BLOCK_BYTES", block_bytes)
        folder = Path(name)
        parts = parts_of(folder, counts, texts)
        output = assemble(folder, folder, parts, output_format=form, epoch=1)
        expected = (folder / output.results.name).read_bytes() if any(counts) or form == "jsonl" else b""
        results = Committed(folder, [part.results for part in parts], is_csv=form == "csv")
        assert results.measure() == len(expected)
        assert b"".join(results.blocks(start)) == expected[start:]
        errors = Committed(folder, [part.errors for part in parts])
        assert b"".join(errors.blocks(start)) == (folder / output.errors.name).read_bytes()[start:]


def test_no_block_is_larger_than_a_part(tmp_path: Path):
    """A download holds one block in memory, whatever the job's size."""
    parts = parts_of(tmp_path, [2, 2, 2])
    files = [part.results for part in parts]
    assert [len(block) for block in Committed(tmp_path, files).blocks()] == [
        file.size_bytes for file in files
    ]


def test_a_part_is_measured_once(tmp_path: Path):
    """CSV must be made to know its size; polling for more makes only what is new."""
    files = [part.results for part in parts_of(tmp_path, [2, 2])]
    size = Committed(tmp_path, files, is_csv=True).measure()
    (tmp_path / files[1].name).unlink()
    assert Committed(tmp_path, files, is_csv=True).measure() == size


def test_a_part_that_is_gone_is_told_from_one_that_is_damaged(tmp_path: Path):
    """The first may be found assembled; of the second not even the last block leaves."""
    first, second = [part.results for part in parts_of(tmp_path, [2, 2])]
    committed = Committed(tmp_path, [first, second])
    content = (tmp_path / second.name).read_bytes()
    (tmp_path / second.name).unlink()
    blocks = committed.blocks()
    assert next(blocks) == (tmp_path / first.name).read_bytes()
    with pytest.raises(FileNotFoundError):
        next(blocks)
    (tmp_path / second.name).write_bytes(content[:-1] + b" ")
    with pytest.raises(PlatformError, match="not what was committed"):
        list(committed.blocks(first.size_bytes))
