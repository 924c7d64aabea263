"""Rules of this repository that no linter knows: sizes, the source root, locks without addresses."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("platform", "serve_apps", "batch", "scripts")
MODULE_LINES, TEST_LINES, FUNCTION_LINES = 400, 500, 60
# Any address at all; written so that this file does not contain what it looks for.
_ADDRESS = re.compile(
    "|".join(("[a-z]+:" + "//", "-" + "-index", "-" + "-find-links", " @ ", "^-i ")), re.MULTILINE
)


def main() -> int:
    """Print each broken rule; 1 if there is one."""
    problems = [*_sizes(), *_source_root(), *_locks()]
    for problem in problems:
        print(problem)
    return int(bool(problems))


def _sizes() -> Iterator[str]:
    for folder, limit in (*((name, MODULE_LINES) for name in SOURCES), ("tests", TEST_LINES)):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            name = path.relative_to(ROOT)
            lines = text.count("\n")
            if lines > limit:
                yield f"{name}: {lines} lines, and {limit} are allowed: split it"
            yield from (f"{name}:{problem}" for problem in long_functions(text))


def long_functions(source: str) -> Iterator[str]:
    """One line for each function of more than 60 lines, its decorators not counted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {lines} lines, and {FUNCTION_LINES} are allowed: split it"


def _source_root() -> Iterator[str]:
    if (ROOT / "platform" / "__init__.py").exists():
        yield "platform/__init__.py: remove it, it would shadow Python's own module `platform`"


def _locks() -> Iterator[str]:
    for path in sorted((ROOT / "configs" / "locks").glob("*.txt")):
        text = path.read_text("utf-8")
        for match in _ADDRESS.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}: a lock holds versions and hashes, no addresses: run scripts/lock"


if __name__ == "__main__":
    sys.exit(main())
