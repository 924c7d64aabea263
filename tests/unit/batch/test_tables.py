"""The first line of results as CSV."""

from __future__ import annotations

from batch import tables


def test_no_name_of_a_field_is_a_formula_or_one_of_ours() -> None:
    """They are a model's own words, and a spreadsheet runs what it opens."""
    assert tables.header(("=cmd|'/C calc'!A0", "id", "label", "index")) == (
        b"index,id,'=cmd|'/C calc'!A0,result.id,label,result.index\r\n"
    )
