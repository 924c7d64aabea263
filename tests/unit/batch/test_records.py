"""Reading: every record comes out, good or bad, with its own line, and none harms its neighbour."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.cells import CellError, parse_cells
from batch.fields import RowShape
from batch.layouts import read_layout
from batch.records import BadRecord, Record, RecordReader
from batch.shards import cut
from fyretoolkit.core.errors import PlatformError

TEXT = RowShape(("text", "input"), is_single=True)
FEATURES = RowShape(("age", "size"), is_single=False)
CAP = 100_000
QUICK = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_all(
    folder: Path, content: bytes, name: str, shape: RowShape = TEXT, target_bytes: int = 64
) -> list[Record | BadRecord]:
    """All records of an input, through layout, plan and shards, as a run does it."""
    path = folder / "input"
    path.write_bytes(content)
    layout = read_layout(path, name=name, content_type=None, max_header_bytes=CAP, max_columns=50)
    plan = cut(path, layout, target_bytes=target_bytes, max_record_bytes=CAP)
    reader = RecordReader(plan, shape, max_record_bytes=CAP, max_columns=50)
    found: list[Record | BadRecord] = []
    for shard in plan.shards:
        found += reader.read(shard, content[shard.start : shard.end])
    assert [record.index for record in found] == list(range(plan.total))
    return found


def test_three_broken_rows_of_ten_are_three_bad_records(tmp_path: Path):
    """Bad JSON and a missing field are found here, the wrong type by the signature; the rest is untouched."""
    lines = [orjson.dumps({"id": f"r{i}", "text": f"text {i}", "word": "w"}) for i in range(10)]
    lines[2] = b'{"id": "r2", "text": '
    lines[5] = b'{"id": "r5", "word": "w", "other": 1}'
    found = read_all(tmp_path, b"\n".join(lines), "x.jsonl")
    bad = [record for record in found if isinstance(record, BadRecord)]
    assert [(record.index, record.line, record.id, record.code) for record in bad] == [
        (2, 3, None, "invalid_row"),
        (5, 6, "r5", "invalid_row"),
    ]
    assert "'text'" in bad[1].message
    assert [record.value for record in found if isinstance(record, Record)] == [
        f"text {i}" for i in range(10) if i not in (2, 5)
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        b"[" * 20_000 + b"]" * 20_000,
        b'{"text":' * 11_000,
        b"9" * 5_000,
        b'{"text": NaN}',
        b'{"text": Infinity}',
        b'{"text": 1e999}',
        b'{"text": "\xff"}',
        b'{"text": "\x00"}',
        b'{"text": "\\ud800"}',
        b'"\xed\xa0\x80"',
        b"   ",
        b"\x00",
        b'{"text": "a"} {"text": "b"}',
        b'"unclosed',
        b"{" + b" " * CAP + b"}",
    ],
)
def test_a_hostile_json_row_is_one_bad_record(tmp_path: Path, hostile: bytes):
    """Its neighbours are read."""
    found = read_all(tmp_path, b'"before"\n' + hostile + b'\n{"text":"after"}\n', "x.jsonl")
    assert [type(record) for record in found] == [Record, BadRecord, Record]
    assert [record.line for record in found] == [1, 2, 3]
    assert isinstance(found[2], Record)
    assert found[2].value == "after"


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (b'5" pipe,x', "inside an unquoted cell"),
        (b'"a"b,x', "follows the closing quote"),
        (b"\xff\xfe,x", "UTF-8"),
        (b"a\x00,x", "NUL"),
        (b"a\rb,x", "carriage return"),
        (b"only one", "1 cells"),
        (b"a,b,c", "3 cells"),
        (b"a" * 2 * CAP + b",x", "longer than"),
    ],
)
def test_a_hostile_csv_row_is_one_bad_record(tmp_path: Path, hostile: bytes, said: str):
    """The message says what RFC 4180 does not allow."""
    found = read_all(tmp_path, b"text,word\nbefore,1\n" + hostile + b'\n"af\nter",2', "x.csv")
    assert [type(record) for record in found] == [Record, BadRecord, Record]
    assert [record.line for record in found] == [2, 3, 4]
    assert isinstance(found[1], BadRecord)
    assert said in found[1].message
    assert isinstance(found[2], Record)
    assert found[2].value == "af\nter"


def test_an_unclosed_quote_is_one_bad_record_to_the_end(tmp_path: Path):
    """Explicit, where pyarrow invents rows (see SAFETY, 2.2)."""
    found = read_all(tmp_path, b'text\nfine\n"never closed\na\nb\n', "x.csv")
    assert [type(record) for record in found] == [Record, BadRecord]
    assert isinstance(found[1], BadRecord)
    assert "never closed" in found[1].message


@QUICK
@given(content=st.binary(max_size=200), sizes=st.tuples(st.integers(1, 300), st.integers(1, 300)))
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_any_bytes_read_alike_whatever_the_shard_size(tmp_path: Path, content: bytes, sizes, name: str):
    """A record's fate does not depend on where the cuts are."""
    content = (b"text,id\n" if name == "x.csv" else b"1\n") + content
    first, second = (read_all(tmp_path, content, name, target_bytes=size) for size in sizes)
    assert first == second


@QUICK
@given(
    rows=st.lists(
        st.tuples(
            st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=10),
            st.text(alphabet='",\n\r é', max_size=6),
        ),
        max_size=10,
    ),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_legal_csv_reads_as_the_standard_library_wrote_it(tmp_path: Path, rows, line_end: str):
    """Oracle: Python's csv module."""
    buffer = io.StringIO(newline="")
    is_quoted = "\r" in str.join("", (cell for row in rows for cell in row))  # csv.writer leaves a CR bare
    quoting = csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, lineterminator=line_end, quoting=quoting)
    writer.writerows([("text", "word"), *rows])
    found = read_all(tmp_path, buffer.getvalue().encode(), "x.csv")
    assert [record.value if isinstance(record, Record) else record for record in found] == [
        text for text, _ in csv.reader(io.StringIO(buffer.getvalue(), newline=""))
    ][1:]


@pytest.mark.parametrize(
    ("record", "cells"),
    [
        (b"", [""]),
        (b",", ["", ""]),
        (b'"",', ["", ""]),
        (b'"a""b",c', ['a"b', "c"]),
        (b'a,"b,c"', ["a", "b,c"]),
        (b'""""', ['"']),
        (b"00123, x ", ["00123", " x "]),
    ],
)
def test_cells(record: bytes, cells: list[str]):
    """By RFC 4180: spaces belong to the cell, zeros stay."""
    assert parse_cells(record) == cells


@pytest.mark.parametrize("record", [b'a"', b'"a', b'"a"b', b'"a" ,b', b'"""', b'a,"b"c'])
def test_cells_that_are_not_rfc_4180_are_refused(record: bytes):
    """Never guessed."""
    with pytest.raises(CellError):
        parse_cells(record)


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (b"id,text,word", b"7,good,x", ("7", "good")),
        (b"custom_id,input", b"c,good", ("c", "good")),
        (b"sentence", b"good", (None, "good")),
        (b"id,sentence", b",good", (None, "good")),
        (b"input,text", b"worse,good", (None, "good")),
    ],
)
def test_one_column_is_the_text(tmp_path: Path, header: bytes, row: bytes, expected):
    """By the input's name, then `input`, then the only column beside the id."""
    (record,) = read_all(tmp_path, header + b"\n" + row, "x.csv")
    assert isinstance(record, Record)
    assert (record.id, record.value) == expected


def test_the_only_field_is_a_property_of_the_file(tmp_path: Path):
    """A file may call the text what it likes; a row that lacks it does not have another field taken for it."""
    content = b'{"id":1,"sentence":"good"}\n{"id":2,"word":"stray"}\n{"id":3,"text":"named"}\n'
    first, stray, named = read_all(tmp_path, content, "x.jsonl")
    assert isinstance(first, Record)
    assert first.value == "good"
    assert isinstance(stray, BadRecord)
    assert isinstance(named, Record)
    assert named.value == "named"
    lacking = read_all(tmp_path, b'{"id":1,"text":"good"}\n{"id":2,"word":"stray"}\n', "y.jsonl")
    assert [type(record) for record in lacking] == [Record, BadRecord]


def test_a_missing_column_is_named_in_every_row(tmp_path: Path):
    """The ids are still carried, so the caller finds the rows."""
    found = read_all(tmp_path, b"id,age\n1,5\n2,6\n", "x.csv", FEATURES)
    assert [(type(record), record.id) for record in found] == [(BadRecord, "1"), (BadRecord, "2")]
    assert isinstance(found[0], BadRecord)
    assert "'size'" in found[0].message


def test_features_are_picked_by_name(tmp_path: Path):
    """Further columns belong to their owner; cells stay text."""
    (record,) = read_all(tmp_path, b"size,x,age\n010,y,5\n", "x.csv", FEATURES)
    assert isinstance(record, Record)
    assert record.value == {"age": "5", "size": "010"}
    (record,) = read_all(tmp_path, b'{"size":1.5,"x":0,"age":5,"id":9}', "x.jsonl", FEATURES)
    assert isinstance(record, Record)
    assert (record.id, record.value) == (9, {"age": 5, "size": 1.5})


def test_bytes_other_than_those_cut_are_refused(tmp_path: Path):
    """A file that changed behind the plan never gives rows."""
    path = tmp_path / "input"
    path.write_bytes(b"1\n2\n")
    layout = read_layout(path, name="x.jsonl", content_type=None, max_header_bytes=CAP, max_columns=50)
    plan = cut(path, layout, target_bytes=64, max_record_bytes=CAP)
    reader = RecordReader(plan, TEXT, max_record_bytes=CAP, max_columns=50)
    with pytest.raises(PlatformError, match="input_changed"):
        list(reader.read(plan.shards[0], b"1\n\n\n"))
