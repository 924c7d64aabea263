"""What an input is, and where its records begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.boundaries import InputFormat
from batch.layouts import declared_format, read_layout, sniff_format
from batch.shards import Layout
from fyretoolkit.core.errors import PlatformError


def layout_of(tmp_path: Path, content: bytes, name: str = "rows", content_type: str | None = None):
    """The layout of a file with this content."""
    path = tmp_path / "input"
    path.write_bytes(content)
    return read_layout(path, name=name, content_type=content_type, max_header_bytes=1000, max_columns=5)


@pytest.mark.parametrize(
    ("name", "content_type", "expected"),
    [
        ("a.csv", "application/jsonl", InputFormat.CSV),
        ("a#b?c.jsonl.CSV", None, InputFormat.CSV),
        ("a.jsonl.gz", "text/csv", InputFormat.JSONL),
        ("a.ndjson.zst", None, InputFormat.JSONL),
        ("a", "text/csv; charset=utf-8", InputFormat.CSV),
        ("a.txt", "application/x-ndjson", InputFormat.JSONL),
        ("a", "application/octet-stream", None),
        ("", None, None),
    ],
)
def test_the_extension_goes_before_the_content_type(name: str, content_type: str | None, expected):
    """What neither says is left to the content."""
    assert declared_format(name, content_type) is expected


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b'{"text": "a"}\n', InputFormat.JSONL),
        (b"\n\n[1, 2]\n", InputFormat.JSONL),
        (b'"a bare sentence"\n', InputFormat.JSONL),
        (b'"text"\r\na fine film\r\n', InputFormat.CSV),
        (b'"text"\n"a fine film, or not', InputFormat.CSV),
        (b'"text"\n"a fine film"\n', InputFormat.JSONL),
        (b"5\nx\n", InputFormat.JSONL),
        (b'"id","text"\n', InputFormat.CSV),
        (b"text\nfine\n", InputFormat.CSV),
        (b"", InputFormat.CSV),
    ],
)
def test_content_decides_last(beginning: bytes, expected: InputFormat):
    """A first line that is a JSON value is JSONL."""
    assert sniff_format(beginning) is expected


def test_records_begin_behind_the_bom_and_the_header(tmp_path: Path):
    """The line number goes on counting physical lines, empty and quoted ones too."""
    bom = b"\xef\xbb\xbf"
    assert layout_of(tmp_path, bom + b'{"a":1}\n') == Layout(InputFormat.JSONL, 3, b'{"a":1}')
    content = bom + b'\r\n"id","te\nxt"\r\n1,2\r\n'
    assert layout_of(tmp_path, content, "x.csv") == Layout(
        InputFormat.CSV, len(content) - len(b"1,2\r\n"), b'"id","te\nxt"', 4
    )
    assert layout_of(tmp_path, b"text", "x.csv") == Layout(InputFormat.CSV, 4, b"text", 1)
    assert layout_of(tmp_path, b'"one; name"\n', "x.csv").header == b'"one; name"'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\r\n\n", "empty"),
        (b"text,\xff\n1,2\n", "UTF-8"),
        ("text\n1\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04zip", "zip"),
        (b"PAR1", "Parquet"),
        (b"a,a\n1,2\n", "'a' twice"),
        (b"a,,b\n", "column 2"),
        (b"a,b,c,d,e,f\n", "6 columns"),
        (b'a,"b\n1,2\n', "never closed"),
        (b"a" * 2000 + b"\n", "longer than 1000"),
        (b"a\x00b\n", "NUL"),
        (b"id;text\n1;a fine film\n", "by commas, not ';'"),
        (b"id\ttext\n1\ta fine film\n", "by commas"),
    ],
)
def test_a_file_without_a_usable_header_fails_the_job(tmp_path: Path, content: bytes, said: str):
    """One code; the message says what is wrong."""
    with pytest.raises(PlatformError) as caught:
        layout_of(tmp_path, content, "x.csv")
    assert caught.value.code == "invalid_format"
    assert said in caught.value.message
