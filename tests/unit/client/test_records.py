"""Lines of results, cut out of a download wherever its blocks happen to end; and tables of them."""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.client.errors import MissingPackageError, UnexpectedResponseError
from fyretoolkit.client.records import JobResult, Records, read_error, read_result
from fyretoolkit.client.tables import arrow_table, data_frame

_CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


def _records(content: bytes, size: int, *, is_csv: bool = False) -> list[dict[str, Any]]:
    records = Records(is_csv=is_csv)
    found = [
        each for start in range(0, len(content), size) for each in records.feed(content[start : start + size])
    ]
    return [*found, *records.end()]


@given(st.integers(1, 90), st.booleans())
def test_json_lines_of_any_blocks(size: int, ends_in_newline: bool) -> None:
    content = (
        b'{"index":0,"id":"\xc3\xa4","result":{"a":1}}\n{"index":7,"result":[1,2]}' + b"\n" * ends_in_newline
    )
    assert [read_result(each) for each in _records(content, size)] == [
        JobResult(0, "ä", {"a": 1}),
        JobResult(7, None, [1, 2]),
    ]


@given(
    st.lists(st.tuples(_CELL, _CELL), max_size=5),
    st.integers(1, 50),
    st.sampled_from((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)),
)
def test_csv_of_any_cells_and_blocks(rows: list[tuple[str, str]], size: int, quoting: Any) -> None:
    """Quotes and newlines within a cell too. The oracle is the standard library's writer."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting)
    writer.writerows([("index", "id", "label"), *((number, *row) for number, row in enumerate(rows))])
    found = _records(text.getvalue().encode(), size, is_csv=True)
    assert [read_result(each) for each in found] == [
        JobResult(number, row[0] or None, {"label": row[1]}) for number, row in enumerate(rows)
    ]


def test_a_cell_may_be_as_long_as_a_result_is() -> None:
    """A tensor, as JSON; the standard library's reader stops at 131,072 characters."""
    long = "[" + "0.25," * 50_000 + "0]"
    (found,) = _records(f'index,id,vector\n0,,"{long}"\n'.encode(), 1 << 16, is_csv=True)
    assert read_result(found) == JobResult(0, None, {"vector": long})


def test_a_column_named_result_is_one_among_others() -> None:
    """Alone it is what a model answers that answers no objects; index and id are as of any other."""
    alone = _records(b"index,id,result\n3,a,0.5\n4,,0.25\n", 9, is_csv=True)
    assert [read_result(each) for each in alone] == [JobResult(3, "a", "0.5"), JobResult(4, None, "0.25")]
    (beside,) = _records(b"index,id,result,score\n3,,yes,0.5\n", 9, is_csv=True)
    assert read_result(beside) == JobResult(3, None, {"result": "yes", "score": "0.5"})


def test_what_is_cut_off_or_no_result_is_told() -> None:
    for content, is_csv in (
        (b'{"index":0,"re', False),
        (b"[1]\n", False),
        (b'index,id\n0,"a', True),
        (b"index,id\n0", True),
        (b"index,id\n0,1,2\n", True),
        (b'index,id\n0,"a"b\n', True),
        (b"index,id\n0,\xff\n", True),
    ):
        with pytest.raises(UnexpectedResponseError):
            _records(content, 4, is_csv=is_csv)
    for record in ({"result": 1}, {"index": 0}, {"index": "x", "label": "a"}):
        with pytest.raises(UnexpectedResponseError):
            read_result(record)
    with pytest.raises(UnexpectedResponseError):
        read_error({"index": 0, "line": 1, "error": None})


def test_tables_have_a_column_for_each_field() -> None:
    """`id` only if the input had some; a result that is no object is the column `result`."""
    results = [
        JobResult(0, None, {"label": "a", "score": 0.5}),
        JobResult(2, None, {"label": "b", "score": 1.0}),
    ]
    assert arrow_table(results).to_pydict() == {"index": [0, 2], "label": ["a", "b"], "score": [0.5, 1.0]}
    assert data_frame(results).to_dict("list") == {"index": [0, 2], "label": ["a", "b"], "score": [0.5, 1.0]}
    named = [JobResult(0, "x", [1.0, 2.0]), JobResult(1, None, [3.0, 4.0])]
    assert arrow_table(named).to_pylist() == [
        {"index": 0, "id": "x", "result": [1.0, 2.0]},
        {"index": 1, "id": None, "result": [3.0, 4.0]},
    ]
    assert arrow_table([]).num_rows == 0


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("pyarrow", arrow_table), ("pandas", data_frame)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=f"pip install {name}"):
            make([])
