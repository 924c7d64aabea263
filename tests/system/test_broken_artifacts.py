"""Broken artifacts, deployed while another model is in use: `scripts/chaos artifacts` in short."""

from __future__ import annotations

import pytest

from fyretoolkit.settings import LimitSettings
from scripts.trials.artifacts import conduct, leftovers
from tests.support.broken_artifacts import BROKEN
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system

NAMES = {
    "truncated",
    "external data, by a link",
    "function bomb",
    "infinite loop at warm-up",
    "zip slip",
    "404",
    "a web page",
}


def test_each_fails_alone(platform: RunningPlatform) -> None:
    """With its own code; no prediction of the other model fails, no inspecting process is left."""
    chosen = [artifact for artifact in BROKEN if artifact.name in NAMES]
    assert len(chosen) == len(NAMES)
    outcomes, usage = conduct(platform, chosen, max_bytes=LimitSettings().max_artifact_bytes)
    assert {each.artifact.name: each.code for each in outcomes} == {each.name: each.code for each in chosen}
    assert all(each.status == "failed" for each in outcomes)
    assert usage.failures == []
    assert usage.latencies_s
    assert leftovers(platform) == []
