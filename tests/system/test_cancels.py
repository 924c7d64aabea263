"""`scripts/chaos cancel`, its short form: a cancel in the queue, early, in the middle and at the end."""

from __future__ import annotations

import pytest

from scripts.trials.cancel import conduct, judge
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system


def test_a_cancel_at_any_moment_ends_a_job_once(platform: RunningPlatform) -> None:
    """One terminal status, quiet, and whole shards from the first row on."""
    moments = ("queued", "staging", "early", "finishing")
    findings = judge(
        conduct(platform, moments, copies=4, seed=1), quiet_s=25.0
    )  # the machine may be a busy one
    assert [each.what for each in findings if not each.is_met] == []
