"""`/docs`: the reference that works without the internet."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fyretoolkit.api.docs import RENDERER
from tests.support.api_bench import Bench
from tests.support.http_server import serve_over_http

CHROMIUM = shutil.which("chromium")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

pytestmark = pytest.mark.anyio


async def test_the_page_needs_no_key_and_loads_nothing_of_others(bench: Bench) -> None:
    page = await bench.request("GET", "/docs", key=None)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert named
    for path in named:
        assert path.startswith("/")
        assert (await bench.request("GET", path, key=None)).status_code == 200, path


async def test_an_unknown_asset_is_an_unknown_path(bench: Bench) -> None:
    for name in ("LICENSE", "..%2Fdocs.py", "nothing.js"):
        answer = await bench.request("GET", f"/docs/{name}", key=None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_the_renderer_is_the_one_that_scripts_vendor_brought() -> None:
    for line in (RENDERER / "VERSION").read_text("utf-8").splitlines()[1:]:
        digest, name = line.split()
        assert hashlib.sha256((RENDERER / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (RENDERER / "LICENSE").read_text("utf-8")


# The one test that needs what no lock can bring. The tests above it hold the page's parts together without a browser.
@pytest.mark.skipif(CHROMIUM is None, reason="install Debian's chromium to run it, as .ci/run does")
async def test_a_browser_shows_every_operation(bench: Bench, tmp_path: Path) -> None:
    """A policy that refuses the page its own scripts would leave it empty, whatever its source says."""
    assert CHROMIUM
    expected = set(bench.app.openapi()["paths"])
    async with serve_over_http(bench.app) as url:
        command = [
            CHROMIUM,
            *_QUIET,
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=20000",
            "--dump-dom",
        ]
        shown = await run_aside([*command, f"{url}/docs"])
    assert set(re.findall(r'data-path="([^"]+)"', shown)) == expected


async def run_aside(command: list[str]) -> str:
    """What a program prints, while this loop goes on serving it."""
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout
