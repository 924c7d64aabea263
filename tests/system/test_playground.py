"""The four flows of the playground's Quick Test on the running platform, to their real ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser

from tests.support.browser import Visit, browser, visiting
from tests.support.platform import RunningPlatform

__all__ = ["browser"]

pytestmark = pytest.mark.system


@pytest.fixture
def visit(browser: Browser, platform: RunningPlatform) -> Iterator[Visit]:
    """A tab of somebody who has just made a key."""
    with visiting(
        browser, platform.url, viewport={"width": 1440, "height": 900}, accept_downloads=True
    ) as opened:
        opened.page.set_default_timeout(240_000)
        opened.go("key")
        opened.page.get_by_role("button", name="Create the key").click()
        opened.page.locator(".issued").wait_for()
        yield opened


def test_the_quick_test_from_the_first_prediction_to_the_metrics(visit: Visit, client: httpx.Client) -> None:
    """Each flow ends in what a person came for: labels, a file, an endpoint that answers, charts."""
    page = visit.page
    visit.go("test/predict")
    page.get_by_role("button", name="Run the prediction").click()
    page.locator(".prediction").nth(2).wait_for()
    visit.shoot("flow-predict")

    visit.go("test/batch")
    rows = [{"id": f"r{number}", "text": "a joy" if number % 2 else "dull"} for number in range(400)]
    page.get_by_label("Rows as JSONL").fill("".join(f"{json.dumps(row)}\n" for row in [*rows, {"id": "bad"}]))
    page.get_by_role("button", name="Run the job").click()
    page.get_by_text("completed: 400 results, 1 error").wait_for()
    assert "401 of 401 rows" in page.locator(".bar-row").inner_text()
    with page.expect_download() as download:
        page.locator("main").get_by_role("link", name=re.compile("Download the results")).click()
    saved = [json.loads(line) for line in download.value.path().read_text("utf-8").splitlines()]
    assert [each["id"] for each in saved] == [row["id"] for row in rows]
    visit.shoot("flow-batch")

    visit.go("test/deploy")
    page.get_by_label("Model", exact=True).select_option("digits")
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.locator("[data-step=predict].done").wait_for()
    assert page.locator("[data-step=ready].done").count() == 1
    assert page.locator(".prediction-label").count() == 1
    visit.shoot("flow-deploy")

    page.get_by_role("link", name="View its metrics").click()
    page.get_by_role("button", name="Send 40 predictions").click()
    page.get_by_text(re.compile(r"40 predictions sent, \d+ counted here")).wait_for()
    page.get_by_role("img", name=re.compile("^Latency: p50 at most")).wait_for()
    visit.shoot("flow-metrics")

    page.get_by_role("link", name="Operations").click()
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    page.get_by_text("Draining: requests under way finish").wait_for()
