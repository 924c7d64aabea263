"""Webhooks of real jobs on the running platform: the short form of `scripts/chaos webhooks`."""

from __future__ import annotations

import pytest

from scripts.trials.webhooks import conduct, judge
from tests.support.platform import RunningPlatform
from tests.support.sentences import sentence

pytestmark = pytest.mark.system


@sentence("webhooks-1", "webhooks-11")
def test_every_receiver_is_told_though_a_sender_is_killed(platform: RunningPlatform) -> None:
    """One job that runs, four that are canceled while they wait; verified by the library of Standard Webhooks."""
    trial = conduct(platform, ["ok", "ok", "flaky", "gone", "redirect"], kills=1, canceled=4)
    findings = judge(trial, kills=1)
    assert [each.what for each in findings[:-1] if not each.is_met] == []
    assert trial.told[0].job["status"] == "completed"
