"""`/docs/guides`: the guides as pages that need no key, no script and nothing of others."""

from __future__ import annotations

import re

import pytest

from fyretoolkit.api import guides
from fyretoolkit.settings import PROJECT_ROOT, load_settings
from tests.support.api_bench import Bench

pytestmark = pytest.mark.anyio

_UNITS = {"": 1, "ms": 1, "s": 1, "h": 3600, "d": 86_400, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER = r"\d+(?:[,.]\d+)*"
_ADDRESS = re.compile(r'(?:src|href)="([^"]+)"')


async def _page(bench: Bench, path: str) -> str:
    answer = await bench.request("GET", path, key=None)
    assert answer.status_code == 200, path
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert not [
        each for each in policy if each.startswith("script-src") or "unsafe" in each or "http" in each
    ]
    return answer.text


async def _pages(bench: Bench) -> dict[str, str]:
    return {
        path: await _page(bench, path)
        for path in ("/docs/guides", *(f"/docs/guides/{n}" for n in guides.PAGES))
    }


async def test_every_guide_of_the_folder_is_in_the_index() -> None:
    """The order of the index is that of the pages; a file that it forgets would be served to nobody."""
    listed = {path for _, path in guides.PAGES.values()}
    assert {path for path in guides.FOLDER.glob("*.md") if path != guides.INDEX} <= listed
    assert all(path.is_file() for path in listed)
    assert list(guides.PAGES)[-4:] == ["errors", "contract", "client", "cli"]


async def test_every_link_of_every_page_leads_somewhere(bench: Bench) -> None:
    """To an address that answers and a heading that is there, or to others, who are asked only when it is followed."""
    pages = await _pages(bench)
    assert len(pages) > 4
    for path, page in pages.items():
        assert "<script" not in page
        for address in set(_ADDRESS.findall(page)):
            if address.startswith("https://"):
                assert f'<a href="{address}"' in page, "a page loads nothing of others"
                continue
            where, _, fragment = address.partition("#")
            assert where == "" or where.startswith("/"), f"{path} links to {address}, which is not served"
            answer = await bench.request("GET", where or path, key=None)
            assert answer.status_code == 200, f"{path} links to {address}"
            assert not fragment or f'id="{fragment}"' in answer.text, f"{path} links to {address}"


async def test_the_page_that_is_shown_is_marked_among_the_others(bench: Bench) -> None:
    page = await _page(bench, "/docs/guides/errors")
    assert re.findall(r'href="([^"]+)" aria-current="page"', page) == ["/docs/guides/errors"]
    assert "<title>Errors · FyreToolkit</title>" in page
    assert "<code>model_not_found</code>" in page


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "",
        "README",
        "guides.py",
        "..%2Fapi%2Fdocs.py",
        "../api/guides.py",
        "%2e%2e/docs.py",
        "errors/",
    ],
)
async def test_what_is_no_guide_is_an_unknown_path(bench: Bench, name: str) -> None:
    """Names are looked up, so none leads out of the folder."""
    answer = await bench.request("GET", f"/docs/guides/{name}", key=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_limits_of_the_guide_are_those_of_the_settings() -> None:
    """Each row names its setting, as it is delivered."""
    settings = load_settings({"FYRE_HOME": "/", "FYRE_REDIS_URL": "redis://"})
    text = (guides.FOLDER / "limits.md").read_text("utf-8")
    rows = re.findall(r"^\| .+ \| ([\d,]+) ?(\w*) \| `(\w+)\.(\w+)` \|$", text, re.MULTILINE)
    assert len(rows) == 21
    for figure, unit, section, name in rows:
        expected = int(figure.replace(",", "")) * _UNITS[unit]
        assert getattr(getattr(settings, section), name) == expected, f"{section}.{name}"
    for name, plan in settings.plans.items():
        limits = ("any" if each is None else f"{each:,}" for each in (plan.read, plan.write, plan.inference))
        assert f"| {name} | {' | '.join(limits)} |" in text


async def test_figures_of_the_guide_are_those_of_the_readme() -> None:
    """Whoever measures again writes the README's; what a platform serves must not stay behind."""
    told = (guides.FOLDER / "limits.md").read_text("utf-8").partition("## Figures")[2].partition("## ")[0]
    known = set(re.findall(_NUMBER, (PROJECT_ROOT / "README.md").read_text("utf-8")))
    assert len(re.findall(_NUMBER, told)) > 15
    assert [each for each in re.findall(_NUMBER, told) if each not in known] == []


async def test_reference_and_playground_lead_to_the_guides(bench: Bench) -> None:
    reference = await bench.request("GET", "/docs", key=None)
    assert 'href="/docs/guides"' in reference.text
    sidebar = await bench.request("GET", "/playground/modules/sidebar.js", key=None)
    assert '"/docs/guides"' in sidebar.text
