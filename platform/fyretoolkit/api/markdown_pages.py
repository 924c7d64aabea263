"""A markdown file as the inside of a page: links lead to where its neighbours are served, headings have anchors.

By markdown-it-py, which `rich` brings anyway; what is written as HTML in a file stays text. Rendering ahead, as a step
of the build, was rejected: what is served would be another file than the one that was reviewed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")
_FRAMES = (
    ("<table>", '<div class="table" tabindex="0"><table>'),
    ("</table>", "</table></div>"),
    ("<pre>", '<pre tabindex="0">'),
)
"""What is wider than a phone scrolls in a frame of its own, which the keyboard reaches."""


def render(text: str, address_of: Callable[[str], str]) -> str:
    """The HTML of a file; `address_of` says where a relative link, without its fragment, leads."""
    tokens = _MARKDOWN.parse(text)
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and after is not None:
            token.attrSet("id", anchor(after.content))
        for each in token.children or ():
            href = str(each.attrGet("href"))
            if each.type == "link_open" and is_relative(href):
                path, mark, fragment = href.partition("#")
                each.attrSet("href", address_of(path) + mark + fragment)
    html = str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
    for plain, framed in _FRAMES:
        html = html.replace(plain, framed)
    return html


def links(text: str) -> list[tuple[str, str]]:
    """(what is read, where it leads, both as written) of each link of a file, in order."""
    found: list[tuple[str, str]] = []
    for token in _MARKDOWN.parse(text):
        inside = token.children or []
        for each, after in pairwise(inside):
            if each.type == "link_open":
                found.append((after.content, str(each.attrGet("href"))))
    return found


def anchor(heading: str) -> str:
    """A heading's anchor, as git hosts make it: `What a call does` is at `what-a-call-does`."""
    return _NOT_IN_ANCHORS.sub("", heading.lower()).strip().replace(" ", "-")


def is_relative(href: str) -> bool:
    """Whether a link names another file by the way to it."""
    return not href.startswith(("/", "#")) and ":" not in href
