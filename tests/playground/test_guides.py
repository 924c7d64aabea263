"""The guides in a browser: in every look, for screen readers, and from page to page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from fyretoolkit.api.guides import PAGES
from tests.playground.test_views import LOOKS
from tests.support.browser import Served, Visit, visiting

AUDITED = ("guides", "guides/start", "guides/limits")
"""Between them they have everything that a page is made of; the long ones would take axe-core seconds each."""


@pytest.mark.parametrize("look", LOOKS)
def test_every_guide_is_readable(browser: Browser, served: Served, look: str) -> None:
    """Nothing is too wide, axe-core finds nothing serious; a screenshot of each is kept."""
    with visiting(browser, served.url, bypass_csp=True, **LOOKS[look]) as visit:
        for path in ("guides", *(f"guides/{name}" for name in PAGES)):
            visit.page.goto(f"{served.url}/docs/{path}")
            wide = visit.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
            visit.shoot(f"{look}-{path.replace('/', '-')}")
            if path in AUDITED and look != "phone":
                assert visit.troubles() == [], path


def test_the_playground_leads_to_them_and_they_to_each_other(visit: Visit) -> None:
    """By what a person sees; every style is allowed by the pages' own policy."""
    visit.page.locator("#sidebar").get_by_role("link", name="All guides").click()
    visit.page.get_by_role("heading", name="Guides", level=1).wait_for()
    visit.page.get_by_role("navigation", name="Guides").get_by_role("link", name="Batch jobs").click()
    visit.page.get_by_role("heading", name="Batch jobs", level=1).wait_for()
    visit.page.locator("main").get_by_role("link", name="webhooks").click()
    visit.page.get_by_role("heading", name="Webhooks", level=1).wait_for()
    bar = visit.page.locator("header").evaluate("(element) => getComputedStyle(element).position")
    assert bar == "sticky"
    visit.page.get_by_role("link", name="Playground").click()
    visit.page.get_by_role("heading", name="Quickstart", level=1).wait_for()
