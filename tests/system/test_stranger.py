"""The README's way to first predictions, once the platform has come up; `scripts/bench stranger` has the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from fyretoolkit.launch.commands import predict_example
from fyretoolkit.settings import PROJECT_ROOT
from scripts.benchmarks.strangers.doors import Stranger
from scripts.benchmarks.strangers.instructions import Instructions
from tests.support.browser import browser
from tests.support.platform import RunningPlatform

__all__ = ["browser"]

pytestmark = pytest.mark.system


@pytest.fixture
def stranger(platform: RunningPlatform) -> Stranger:
    """Somebody in this checkout, told where this platform is."""
    readme = (PROJECT_ROOT / "README.md").read_text("utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "FYRE_BASE_URL": platform.url, "no_proxy": "*"}
    return Stranger(PROJECT_ROOT, environ, Instructions.of(readme), platform.url)


def test_each_door_leads_to_a_prediction(stranger: Stranger, browser: Browser) -> None:
    """What `up` prints, the first program and the first `fyre predict` of the README, and the page's Send."""
    stranger.predict_by_curl(f"  try        {predict_example(stranger.url)}")
    stranger.predict_by_client()
    stranger.predict_by_command()
    stranger.predict_by_browser(browser)
