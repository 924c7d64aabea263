"""Identifiers sort by time, are recognised by their prefix, and slugs hold what a model id may."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.core.ids import is_id, is_slug, made_at, new_id, slugify


def test_ids_grow() -> None:
    """Ids made one after another sort in that order, within one millisecond too."""
    made = [new_id("job") for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000


def test_threads_never_share_an_id() -> None:
    """Eight threads at once: no id twice."""
    with ThreadPoolExecutor(8) as pool:
        made = [
            name
            for names in pool.map(lambda _: [new_id("x") for _ in range(500)], range(8))
            for name in names
        ]
    assert len(set(made)) == 4000


def test_an_id_tells_when_it_was_made() -> None:
    """The time and its digits are those in the README of github.com/ulid/javascript; the other digits are random."""
    assert made_at("job_01ARYZ6S41TSV4RRFFQ69G5FAV") == 1469918176.385
    assert made_at("job_01ARYZ6S410000000000000000") == 1469918176.385
    before = time.time_ns() // 1_000_000 / 1000
    assert before <= made_at(new_id("job")) <= time.time() + 1


@pytest.mark.parametrize(
    "text", ["job_", "job", "dep_01ARZ3NDEKTSV4RRFFQ69G5FAV", "job_81ARZ3NDEKTSV4RRFFQ69G5FAV",
             "job_01arz3ndektsv4rrffq69g5fav", "job_01ARZ3NDEKTSV4RRFFQ69G5FAVX", "job_01ARZ3NDEKTSV4RRFFQ69G5FA\n"],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    """Another prefix, a ULID out of range, lower case, wrong length, a trailing newline."""
    assert not is_id(text, "job")


def test_an_id_is_recognised() -> None:
    """The specification's own example, and a new one."""
    assert is_id("job_01ARZ3NDEKTSV4RRFFQ69G5FAV", "job")
    assert is_id(new_id("job"), "job")


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Digits Forest", "digits-forest"), ("digits_forest", "digits-forest"), ("résumé v2", "r-sum-v2"), ("..", ""),
     ("-a-", "a"), ("x" * 80, "x" * 64)],
)  # fmt: skip
def test_slugs_of_file_names(name: str, slug: str) -> None:
    """File names become ids that a URL can hold."""
    assert slugify(name) == slug


@given(st.text())
def test_a_slug_is_a_slug(text: str) -> None:
    """Whatever the file is called: its slug is empty or legal."""
    slug = slugify(text)
    assert slug == "" or is_slug(slug)
