"""The synchronous client, made of the asynchronous one: the same text without `async` and `await`.

One source for both was wanted with full types and signatures in either. Methods that take a mode as a type parameter
cannot be typed in Python, and a core without I/O would leave every signature and docstring to be written twice.
Source of the idea: python-trio/unasync, as httpcore uses it.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

_SOURCE, _TWIN = "asynchronous", "synchronous"
_RENAMED: Mapping[str, str] = MappingProxyType(
    {
        _SOURCE: _TWIN,
        "aclose": "close",
        "aread": "read",
        "aiter_raw": "iter_raw",
        "asynccontextmanager": "contextmanager",
        "__aiter__": "__iter__",
        "__aenter__": "__enter__",
        "__aexit__": "__exit__",
    }
)
_PREFIX = re.compile("(Async|async_)(?=[A-Za-z])")
_WORD = re.compile(r"\b\w+\b")
_PACKAGE_DOCSTRING = (
    '"""The client without asyncio: generated from `asynchronous/` by `scripts/describe`, never edited."""\n'
)
_NOTE = "# Generated from ../asynchronous/{name} by scripts/describe: change that one.\n"


def synchronous_modules(client: Path) -> dict[Path, str]:
    """The text of each module of the twin, by where it belongs."""
    modules = {}
    for source in sorted((client / _SOURCE).glob("*.py")):
        text = _PACKAGE_DOCSTRING
        if source.name != "__init__.py":
            text = _NOTE.format(name=source.name) + without_async(source.read_text("utf-8"))
        modules[client / _TWIN / source.name] = text
    return dict(zip(modules, _formatted(list(modules.values())), strict=True))


def without_async(source: str) -> str:
    """The same code for callers that wait."""
    return "".join(_rewritten(source))


def _rewritten(source: str) -> Iterator[str]:
    lines = source.splitlines(keepends=True)
    row, column = 1, 0
    dropped_until: tuple[int, int] | None = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        gap = _between(lines, (row, column), token.start)
        yield gap.lstrip(" ") if dropped_until == (row, column) else gap
        dropped_until = None
        if token.type == tokenize.NAME and token.string in ("async", "await"):
            dropped_until = token.end
        else:
            yield _renamed(token)
        row, column = token.end


def _renamed(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return _name(token.string)
    if token.type == tokenize.STRING:
        return _WORD.sub(lambda word: _name(word[0]), token.string).replace("await ", "")
    return token.string


def _name(name: str) -> str:
    return _RENAMED.get(name) or _PREFIX.sub("", name, count=1)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """What stands between two tokens."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    first = lines[start[0] - 1][start[1] :]
    between = lines[start[0] : end[0] - 1]
    last = lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""
    return "".join([first, *between, last])


def _formatted(texts: list[str]) -> list[str]:
    """As ruff orders imports and breaks lines."""
    ruff = str(Path(sys.executable).with_name("ruff"))
    done = []
    for text in texts:
        formatted = text
        for command in (["check", "--select", "I,F401", "--fix-only", "--quiet"], ["format", "--quiet"]):
            formatted = subprocess.run(
                [ruff, *command, "--stdin-filename", "platform/fyretoolkit/client/twin.py", "-"],
                input=formatted,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        done.append(formatted)
    return done
