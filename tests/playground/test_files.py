"""What is served at `/`, read as files: no browser is needed to see that it holds together."""

from __future__ import annotations

import re

import pytest

from fyretoolkit.api.playground import FOLDER
from fyretoolkit.settings import Settings
from tests.support.api_bench import open_bench

pytestmark = pytest.mark.anyio

MODULES = sorted(FOLDER.glob("modules/**/*.js"))
STYLES = sorted(FOLDER.glob("styles/*.css"))


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


async def test_the_page_needs_no_key_and_may_do_little(settings: Settings) -> None:
    """Its own scripts and styles, this API, and nothing else; no text becomes markup."""
    async with open_bench(settings) as bench:
        page = await bench.request("GET", "/", key=None)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert not [name for name in page.headers if name.startswith("x-ratelimit")]
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        for part in ("default-src 'none'", "connect-src 'self'", "require-trusted-types-for 'script'"):
            assert part in policy
        for path in re.findall(r'(?:src|href)="(/playground/[^"]*)"', page.text):
            answer = await bench.request("GET", path, key=None)
            assert answer.status_code == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_module_that_is_imported_is_served(settings: Settings) -> None:
    async with open_bench(settings) as bench:
        for module in MODULES:
            for name in re.findall(r'^import [^"]*"([^"]+)";', module.read_text("utf-8"), re.MULTILINE):
                path = (module.parent / name).resolve().relative_to(FOLDER)
                answer = await bench.request("GET", f"/playground/{path}", key=None)
                assert answer.status_code == 200, f"{module.name} imports {name}"
                assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("name", ["page.html", "README.md", "..%2Fsettings.py", "modules", "nothing.js"])
async def test_what_is_no_part_of_the_page_is_an_unknown_path(settings: Settings, name: str) -> None:
    async with open_bench(settings) as bench:
        answer = await bench.request("GET", f"/playground/{name}", key=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("mode", ["development", "production"])
async def test_the_demo_key_is_named_where_it_works_alone(settings: Settings, mode: str) -> None:
    """The page issues keys with it; in production mode there is nobody to issue them for."""
    changed = settings.model_copy(update={"mode": mode})
    async with open_bench(changed) as bench:
        known = (await bench.request("GET", "/playground/start.json", key=None)).json()
    assert known["mode"] == mode
    assert known["demo_key"] == ("sk_live_demo_12345" if mode == "development" else None)
    assert "us-east-1" in known["regions"]
    assert {"read": 120, "write": 60, "inference": 600}.items() <= known["plans"]["free"].items()


@pytest.mark.parametrize("path", [*MODULES, *STYLES], ids=lambda path: path.name)
def test_a_file_is_small_and_asks_nobody_else(path) -> None:  # type: ignore[no-untyped-def]
    """Read by people: at most 400 lines. No address of another host, no markup made of text, no cookie."""
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[\w.]+", text) == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|document\.cookie", text)
        == []
    )
    assert "credentials:" not in text or 'credentials: "omit"' in text
