"""Generated requests: whatever is sent, the answer is one that the OpenAPI document announces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.conformance.fuzzing import Fuzz, Targets
from tests.support.conformance import Caller, Organization, new_organization
from tests.support.sentences import sentence

VALID, OTHERS = 10, 4
"""Requests to each operation, with a key of the organization and otherwise; `scripts/chaos schemathesis` sends more."""


@pytest.fixture(scope="module")
def targets(operator: Caller) -> Iterator[Targets]:
    """An organization of its own, full of objects."""
    made = Targets(new_organization(operator), operator)
    yield made
    made.clean_up()


@sentence("health-4", "errors-1", "wire-3")
def test_answers_are_those_of_the_document(
    api_url: str, operator: Caller, targets: Targets, other: Organization
) -> None:
    """With a key, without one, with a foreign one: no 5xx, no status, header, type or body that is not announced."""
    fuzz = Fuzz(api_url, targets, operator)
    fuzz.run("valid", targets.org.caller.key, VALID)
    fuzz.run("nobody", None, OTHERS)
    fuzz.run("foreign", other.caller.key, OTHERS)
    report = fuzz.report
    assert report.failures == []
    assert report.never_succeeded("valid") == []
    assert report.cases >= 400
    assert report.with_status(429) < report.cases * 0.05
