"""File names that callers choose, and the URIs of files."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.files import MAX_NAME_BYTES, clean_filename, file_id_of


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("rows.csv", "rows.csv"),
        ("  rows.csv\n", "rows.csv"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\rows.csv", "rows.csv"),
        ("C:\\My Documents\\Ümläut.jsonl.gz", "Ümläut.jsonl.gz"),
        ("a\x00b\x1b[31m.csv", "ab[31m.csv"),
        ("gpj.\u202ecsv", "gpj.csv"),
        ("\ud800.csv", ".csv"),
        ("folder/", "upload"),
        ("..", "upload"),
        ("", "upload"),
        ("x" * 300 + ".jsonl.gz", "x" * 246 + ".jsonl.gz"),
        ("é" * 200 + ".csv", "é" * 125 + ".csv"),
        ("." + "x" * 300, "." + "x" * 254),
    ],
)
def test_a_name_is_made_safe_and_keeps_its_suffix(given_name: str, name: str) -> None:
    assert clean_filename(given_name) == name


@given(st.text(max_size=600))
def test_whatever_is_given_a_name_comes_out(text: str) -> None:
    """One path component that prints and that a file system takes; cleaning it again changes nothing."""
    name = clean_filename(text)
    assert name.isprintable()
    assert PurePosixPath("folder", name).parts == ("folder", name)
    assert 1 <= len(name.encode()) <= MAX_NAME_BYTES
    assert clean_filename(name) == name


@pytest.mark.parametrize(
    ("url", "file_id"),
    [
        ("fyre://files/file_x", "file_x"),
        ("FYRE://FILES/file_x", "file_x"),
        ("fyre://files/", ""),
        ("fyre://files", None),
        ("fyre://models/m", None),
        ("https://fyre://files/x", None),
        ("models://m", None),
    ],
)
def test_the_uri_of_a_file_holds_its_id(url: str, file_id: str | None) -> None:
    assert file_id_of(url) == file_id
