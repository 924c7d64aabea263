"""Parts and the files assembled from them: whole or absent, in order, checked."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from batch.assembly import _copied_blocks, _publish, assemble
from batch.parts import Answer, Part, PartFile, PartLines, write_part
from fyretoolkit.core.errors import PlatformError
from tests.support.disks import free_with


def part_of(folder: Path, shard: int, *, epoch: int = 1, result: object = None) -> Part:
    """A part with two results and one error between them."""
    lines = PartLines()
    first = shard * 3
    lines.add_error(first + 1, first + 2, "bad", "invalid_row", "The row cannot be read.")
    lines.add_result(first + 2, None, result or {"label": "neg", "score": 0.25})
    lines.add_result(first, "a", result or {"label": "=pos", "score": -0.75})
    return write_part(folder, shard, epoch, lines)


def test_a_part_holds_its_rows_in_order(tmp_path: Path):
    """The two line formats of the contract; nothing is left aside."""
    part = part_of(tmp_path, 0)
    assert (tmp_path / part.results.name).read_bytes() == (
        b'{"index":0,"id":"a","result":{"label":"=pos","score":-0.75}}\n'
        b'{"index":2,"result":{"label":"neg","score":0.25}}\n'
    )
    assert (tmp_path / part.errors.name).read_bytes() == (
        b'{"index":1,"line":2,"id":"bad","error":{"code":"invalid_row","message":"The row cannot be read."}}\n'
    )
    assert {path.name for path in tmp_path.iterdir()} == {part.results.name, part.errors.name}
    assert part.results.name.startswith("part-000000-1-")
    assert Part.from_json(part.to_json()) == part


@pytest.mark.parametrize(
    "result",
    [
        {"text": 'a quote"},{"index":1'},
        {"index": [{"index": 1}, {"index": 2}]},  # objects that begin as a line does
        {"text": "\u2028\n", "nothing": None},
        [],
    ],
)
def test_answers_written_together_are_those_written_alone(tmp_path: Path, result: object):
    """Whatever the model says, each row has its line."""
    answers = [Answer(index, f"row-{index}" if index % 2 else None, result) for index in range(3)]
    together, alone = PartLines(), PartLines()
    together.add_results(answers)
    for answer in answers:
        alone.add_result(answer.index, answer.id, answer.result)
    assert together.succeeded == alone.succeeded == 3
    written = [write_part(tmp_path, 0, 1, lines).results for lines in (together, alone)]
    assert written[0].sha256 == written[1].sha256
    lines = (tmp_path / written[0].name).read_bytes().splitlines()
    assert [orjson.loads(line)["index"] for line in lines] == [0, 1, 2]


def test_a_part_of_several_pieces_is_whole(tmp_path: Path):
    """It is written a piece at a time."""
    lines = PartLines()
    for index in range(3):
        lines.add_result(index, None, f"{index}" * 300_000)
    part = write_part(tmp_path, 0, 1, lines)
    content = (tmp_path / part.results.name).read_bytes()
    assert content == b"".join(text for _, text in lines.results)
    assert (part.results.size_bytes, part.results.sha256) == (
        len(content),
        hashlib.sha256(content).hexdigest(),
    )


def test_two_runs_write_the_same_bytes_to_other_files(tmp_path: Path):
    """A late writer of an old run never touches what a newer one committed."""
    first, second = part_of(tmp_path, 4, epoch=1), part_of(tmp_path, 4, epoch=2)
    assert first.results.name != second.results.name
    assert first.results.sha256 == second.results.sha256


def test_two_workers_of_one_run_do_not_overwrite_each_other(tmp_path: Path):
    """The runner and its pool may take the same shard: the part that was committed keeps its bytes."""
    committed = part_of(tmp_path, 4)
    part_of(tmp_path, 4, result={"label": "another", "score": 1.0})
    assemble(tmp_path, tmp_path, [committed], output_format="jsonl", epoch=1)
    assert b"another" not in (tmp_path / "output-1.jsonl").read_bytes()


def test_two_assemblies_of_one_job_share_no_temporary_file(tmp_path: Path):
    """One was left running and is in the middle of its file while a second begins and ends."""
    part = part_of(tmp_path, 0)
    blocks = _copied_blocks(tmp_path, [part.results])

    def slow() -> Iterator[bytes]:
        yield next(blocks)
        assemble(tmp_path, tmp_path, [part], output_format="jsonl", epoch=1)

    published = _publish(tmp_path / "output-1.jsonl", slow())
    assert published == PartFile("output-1.jsonl", part.results.size_bytes, part.results.sha256)
    assert (tmp_path / "output-1.jsonl").read_bytes() == (tmp_path / part.results.name).read_bytes()


def test_parts_are_joined_in_the_order_given(tmp_path: Path):
    """The digests of the output are those of its content."""
    parts = [part_of(tmp_path, shard) for shard in (0, 1, 2)]
    output = assemble(tmp_path, tmp_path, parts, output_format="jsonl", epoch=1)
    content = (tmp_path / "output-1.jsonl").read_bytes()
    assert [orjson.loads(line)["index"] for line in content.splitlines()] == [0, 2, 3, 5, 6, 8]
    assert output.results.sha256 == hashlib.sha256(content).hexdigest()
    assert output.results.size_bytes == len(content)
    errors = (tmp_path / "errors-1.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["index"] for line in errors] == [1, 4, 7]
    assert output.to_json()["partial"] is False


def test_csv_output_guards_text_and_leaves_numbers(tmp_path: Path):
    """A spreadsheet runs no formula; a column for each field of any result."""
    parts = [
        part_of(tmp_path, 0),
        part_of(tmp_path, 1, result={"label": "x", "scores": [1, 2.5], "ok": True}),
    ]
    assemble(tmp_path, tmp_path, parts, output_format="csv", epoch=1)
    with (tmp_path / "output-1.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["index", "id", "label", "score", "scores", "ok"],
            ["0", "a", "'=pos", "-0.75", "", ""],
            ["2", "", "neg", "0.25", "", ""],
            ["3", "a", "x", "", "[1,2.5]", "true"],
            ["5", "", "x", "", "[1,2.5]", "true"],
        ]


def test_a_damaged_part_is_never_published(tmp_path: Path):
    """Lost or changed on disk: an error, no output, and nothing left aside."""
    part = part_of(tmp_path, 0)
    (tmp_path / part.results.name).write_bytes(b"{}\n")
    with pytest.raises(PlatformError, match="not what was committed"):
        assemble(tmp_path, tmp_path, [part], output_format="jsonl", epoch=1)
    (tmp_path / part.results.name).unlink()
    with pytest.raises(PlatformError, match="missing"):
        assemble(tmp_path, tmp_path, [part], output_format="jsonl", epoch=1)
    assert not list(tmp_path.glob("*output*"))


def test_nothing_in_gives_empty_files(tmp_path: Path):
    """A CSV input with a header alone is a job of no rows."""
    output = assemble(tmp_path, tmp_path, [], output_format="jsonl", epoch=1)
    assert (output.results.size_bytes, output.errors.size_bytes) == (0, 0)


@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_an_output_stops_at_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_format: str):
    """There was room for all of it when it was begun; others took that meanwhile. Nothing is left aside."""
    parts = [part_of(tmp_path, shard) for shard in (0, 1)]
    free_with(monkeypatch, 1000)
    with pytest.raises(PlatformError) as caught:
        assemble(tmp_path, tmp_path, parts, output_format=output_format, epoch=1, reserve_bytes=1000)
    assert caught.value.code == "storage_full"
    assert not list(tmp_path.glob("*output*"))
    assemble(tmp_path, tmp_path, parts, output_format=output_format, epoch=1, reserve_bytes=700)
