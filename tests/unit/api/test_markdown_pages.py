"""Markdown as the inside of a page."""

from __future__ import annotations

import pytest

from fyretoolkit.api.markdown_pages import anchor, links, render


def _served(path: str) -> str:
    return {"batch.md": "/guides/batch"}[path]


@pytest.mark.parametrize(
    ("written", "leads_to"),
    [
        ("batch.md", "/guides/batch"),
        ("batch.md#results", "/guides/batch#results"),
        ("#here", "#here"),
        ("/docs", "/docs"),
        ("https://example.com/batch.md", "https://example.com/batch.md"),
    ],
)
def test_relative_links_lead_to_where_files_are_served(written: str, leads_to: str) -> None:
    """Every other link stays as it is."""
    assert render(f"[x]({written})", _served) == f'<p><a href="{leads_to}">x</a></p>\n'


def test_html_and_scripts_stay_text() -> None:
    html = render("<script>alert(1)</script>\n\n[x](javascript:alert(1)) `<b>`", _served)
    assert "<script" not in html
    assert "href" not in html
    assert "<code>&lt;b&gt;</code>" in html


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("What a call does", "what-a-call-does"),
        ("`/docs`: the page", "docs-the-page"),
        ("From a script, a shell or a notebook", "from-a-script-a-shell-or-a-notebook"),
    ],
)
def test_headings_have_the_anchors_of_git_hosts(heading: str, expected: str) -> None:
    assert anchor(heading) == expected
    assert f'<h2 id="{expected}">' in render(f"## {heading}", _served)


def test_wide_parts_scroll_in_frames_that_the_keyboard_reaches() -> None:
    html = render("| a |\n|---|\n| b |\n\n```sh\nls <table>\n```\n", _served)
    assert html.count('<div class="table" tabindex="0"><table>') == html.count("</table></div>") == 1
    assert '<pre tabindex="0"><code class="language-sh">ls &lt;table&gt;' in html


def test_links_are_found_in_order() -> None:
    assert links("[a](b.md) and\n\n| [c](d) |\n|---|\n") == [("a", "b.md"), ("c", "d")]
