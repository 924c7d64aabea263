"""Debian's chromium, driven by Playwright, and the real app behind real HTTP for it to look at.

Playwright's own interface for threads, not asyncio: its loop would be the one of the app that it asks. One browser a
module, because a loop of it that lives on would be in the way of tests with loops of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT, Settings
from tests.support.api_bench import Bench, open_bench
from tests.support.http_server import serve_over_http

CHROMIUM = shutil.which("chromium")
AXE = PROJECT_ROOT / "tests" / "playground" / "vendored" / "axe-core" / "axe.min.js"
SCREENSHOTS = os.environ.get("FYRE_SCREENSHOTS")
"""The folder in which screenshots are kept, if there is one."""
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
_SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One a module; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("install Debian's chromium to run it, as .ci/run does")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield opened
        opened.close()


@dataclass
class Visit:
    """A page of the playground, and what went wrong in it that nobody sees."""

    page: Page
    url: str
    defects: list[str] = field(default_factory=list)

    def sign_in(self, key: str = DEMO_KEY) -> None:
        """As a person does."""
        self.go("key")
        self.page.get_by_label("API key", exact=True).fill(key)
        self.page.get_by_role("button", name="Use this key").click()
        self.page.get_by_role("heading", name="Quick Test", level=1).wait_for()

    def go(self, where: str) -> None:
        """The view at `#/where`, once it is there and its choices are."""
        self.page.goto(f"{self.url}/#/{where}")
        self.page.locator(f"main[data-view='#/{where}']").wait_for()
        self.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")

    def send(self) -> int:
        """Press Send Request; the status of the answer, 0 for none."""
        self.page.get_by_role("button", name="Send Request").click()
        answer = self.page.locator(".answer")
        answer.wait_for()
        return int(answer.get_attribute("data-status") or -1)

    def troubles(self) -> list[str]:
        """What axe-core finds that is serious: a line each."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found: dict[str, Any] = self.page.evaluate("() => axe.run()")
        assert len(found["passes"]) > 15, "it did not look"
        return [
            f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in _SERIOUS
            for node in each["nodes"]
        ]

    def shoot(self, name: str) -> None:
        """Keep a screenshot, where somebody wants them."""
        if SCREENSHOTS:
            folder = Path(SCREENSHOTS)
            folder.mkdir(parents=True, exist_ok=True)
            self.page.evaluate("() => scrollTo(0, 0)")
            self.page.screenshot(path=folder / f"{name}.png", full_page=True)


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A fresh tab; fails if its scripts did, or if it asked anybody but this platform for anything."""
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        visit = Visit(page, url)
        page.on("pageerror", lambda error: visit.defects.append(str(error)))
        page.on(
            "request",
            lambda request: visit.defects.append(request.url) if _is_foreign(request.url, url) else None,
        )
        page.on(
            "console",
            lambda message: (
                visit.defects.append(message.text) if "Content Security" in message.text else None
            ),
        )
        page.goto(f"{url}/")
        page.locator("main h1").wait_for()
        yield visit
    assert visit.defects == []


def _is_foreign(address: str, url: str) -> bool:
    return not address.startswith((f"{url}/", "blob:", "data:"))


@dataclass
class Served:
    """The app over HTTP, in a thread with a loop of its own."""

    bench: Bench
    url: str
    portal: anyio.from_thread.BlockingPortal
    stop: Any

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """One request that no browser makes."""

        async def request() -> Any:
            return await self.bench.request(method, path, **options)

        return self.portal.call(request)


@contextmanager
def serving(settings: Settings, *models: str) -> Iterator[Served]:
    """The app with these demo models deployed; `stop` ends its HTTP server early."""

    @asynccontextmanager
    async def server(bench: Bench) -> AsyncIterator[str]:
        async with serve_over_http(bench.app) as url:
            yield url

    async def deploy(bench: Bench) -> None:
        for model in models:
            await bench.deploy(model)

    with anyio.from_thread.start_blocking_portal() as portal, ExitStack() as ends:
        bench = ends.enter_context(portal.wrap_async_context_manager(open_bench(settings)))
        portal.call(deploy, bench)
        running = ExitStack()
        ends.enter_context(running)
        url = running.enter_context(portal.wrap_async_context_manager(server(bench)))
        yield Served(bench, url, portal, running.close)
