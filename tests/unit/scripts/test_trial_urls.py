"""`scripts/chaos urls`: some of the URLs for real, and what it judges by, on outcomes made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.trials import urls
from scripts.trials.hostile.catalogue import catalogue
from scripts.trials.hostile.outcomes import Field, Outcome, judge, table
from scripts.trials.hostile.world import is_possible

TOLD = Outcome("a scheme", "ftp://a/", True, Field.INPUT, 422, "url_not_allowed")
LATER = Outcome("a name that leads elsewhere", "https://b/", False, Field.MODEL, 201, "url_not_allowed")
REDIRECT = Outcome("a redirect", "https://c/", False, Field.WEBHOOK, 202, "302")
SHORT_FORM = 11
"""One of so many URLs."""


def missed(*outcomes: Outcome) -> list[bool]:
    """Whether each line is missed: nothing touched, the told, the others."""
    return [not finding.is_met for finding in judge(outcomes)]


def test_hostile_urls_lead_nowhere() -> None:
    """A part of the catalogue, in every field, against the real code in production mode."""
    if not is_possible():
        pytest.skip("this system permits no network namespaces")
    outcomes = urls.conduct([*catalogue()][::SHORT_FORM])
    assert [finding.what for finding in judge(outcomes) if not finding.is_met] == []
    assert {each.is_told for each in outcomes} == {True, False}


def test_the_catalogue_is_long_enough() -> None:
    """Each URL once."""
    found = [each.url for each in catalogue()]
    assert len(found) == len(set(found)) >= 120


def test_what_was_refused_is_right() -> None:
    """At once where the text tells it, later where it does not; a webhook is not redirected."""
    assert missed(TOLD, LATER, REDIRECT) == [False, False, False]
    assert "| a scheme | 1 | 1 | 0 |\n| a name that leads elsewhere | 1 | 0 | 1 |" in table([TOLD, LATER])


def test_a_connection_is_never_right() -> None:
    """However the request ended."""
    touched = replace(LATER, forbidden=["127.0.0.1 port 443"])
    assert missed(TOLD, touched) == [True, False, True]
    assert "127.0.0.1 port 443" in judge([TOLD, touched])[0].what
    assert missed(replace(TOLD, unseen=1)) == [True, True, False]


def test_another_end_is_wrong() -> None:
    """Another code, another status; a webhook's receiver that nobody may call is no redirect."""
    assert missed(replace(TOLD, code="invalid_request"), LATER) == [False, True, False]
    assert missed(replace(TOLD, status=202), LATER) == [False, True, False]
    assert missed(TOLD, replace(LATER, code="artifact_unreachable")) == [False, False, True]
    assert missed(TOLD, replace(LATER, field=Field.WEBHOOK, status=202, code="200")) == [False, False, True]
    assert missed(TOLD, replace(REDIRECT, field=Field.INPUT, code="input_unreachable")) == [
        False,
        False,
        True,
    ]
