"""The conformance tests notice a broken promise. All violations: `scripts/chaos violations`; here a few quick ones."""

from __future__ import annotations

import os

import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.conftest import RATE_WINDOW_S
from tests.contract.conformance.violations import VIOLATIONS
from tests.support.copies import Examiner, Violation, changed, copy_product, violated
from tests.support.platform import RunningPlatform

QUICK = {"401 without a challenge", "has_more at the end", "a replay that does not say so"}


def test_each_violation_can_be_planted() -> None:
    """Its text is in the product exactly once."""
    assert len(VIOLATIONS) >= 20
    assert len({each.name for each in VIOLATIONS}) == len(VIOLATIONS)
    for violation in VIOLATIONS:
        changed(PROJECT_ROOT, violation)


@pytest.fixture(scope="module")
def examiner(platform: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Examiner:
    """Conformance tests against a copy, which is unchanged between tests."""
    copy = copy_product(tmp_path_factory.mktemp("copy"))
    return Examiner(platform, copy, window_s=RATE_WINDOW_S)


@pytest.mark.system
@pytest.mark.skipif(
    "FYRE_CONFORMANCE_URL" in os.environ,
    reason="a violating ingress is started beside the session's own platform, and with a URL given there is none",
)
@pytest.mark.parametrize(
    "violation", [each for each in VIOLATIONS if each.name in QUICK], ids=lambda each: each.name
)
def test_a_violation_is_noticed(examiner: Examiner, violation: Violation) -> None:
    """Some test of its section fails; without it none does."""
    with violated(examiner.copy, violation):
        assert examiner.failures(violation.tests, "--maxfail=1") != []
