"""What the tests of the playground share: the browser, and settings for the app that it looks at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from fyretoolkit.settings import Settings
from tests.contract.conftest import settings
from tests.support.browser import Served, Visit, browser, serving, visiting

__all__ = ["browser", "settings"]


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    """The app in development mode, with two models that answer."""
    with serving(settings, "sentiment-v1", "digits") as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """A tab that nobody has signed in to."""
    with visiting(browser, served.url) as opened:
        yield opened
