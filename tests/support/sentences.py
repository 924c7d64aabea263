"""The promises of `platform/fyretoolkit/api/CONTRACT.md`, and the mark by which a test says which of them it holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from fyretoolkit.settings import PROJECT_ROOT

CONTRACT = PROJECT_ROOT / "platform" / "fyretoolkit" / "api" / "CONTRACT.md"

_ITEM = re.compile(r"- `(?P<id>[a-z]+-\d+)` (?P<text>.+?)(?: \(pending: (?P<issue>.+)\))?")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One promise. `pending` names the issue that builds it, None once it is kept."""

    id: str
    text: str
    pending: str | None


def sentence(*ids: str) -> pytest.MarkDecorator:
    """Marks a test with the promises it holds; a literal each, so that they can be read off the source."""
    return pytest.mark.sentence(*ids)


def contract_sentences() -> list[Sentence]:
    """Every item of the contract, in its order; a list item that is none is an error."""
    found = []
    for number, line in enumerate(CONTRACT.read_text("utf-8").splitlines(), start=1):
        if line.startswith(("- ", "* ", "  - ")):
            match = _ITEM.fullmatch(line)
            assert match, f"{CONTRACT.name}:{number}: a promise begins with its id: - `auth-1` …"
            found.append(Sentence(match["id"], match["text"], match["issue"]))
    return found


def marked_tests() -> Iterator[tuple[str, str]]:
    """(id of a promise, test) for each mark in the tests' sources, whether or not they are collected now."""
    tests = PROJECT_ROOT / "tests"
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in _marks(node):
                    yield name, f"{path.relative_to(tests)}::{node.name}"


def _marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "sentence":
            yield from (ast.literal_eval(argument) for argument in decorator.args)
