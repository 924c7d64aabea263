"""Lists: so many of the newest, or all; as a table or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated, TypeVar

import typer

from fyretoolkit.cli.output import print_list, print_table, say
from fyretoolkit.client import Page
from fyretoolkit.schemas.wire import Resource

R = TypeVar("R", bound=Resource)

PAGE = 100
"""Of one request: the most that the API gives."""
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many of the newest.")]
DEFAULT_LIMIT = 50


def show_list(
    page: Page[R],
    columns: Sequence[str],
    row: Callable[[R], Sequence[object]],
    *,
    limit: int | None,
    as_json: bool,
) -> None:
    """Objects newest first, `limit` of them at most; None: all. What was left out is said on stderr."""
    found = list(islice(page, None if limit is None else limit + 1))
    has_more = limit is not None and len(found) > limit
    shown = found[:limit]
    if as_json:
        print_list(shown, has_more=has_more)
        return
    print_table(columns, map(row, shown))
    if has_more:
        say(f"The newest {len(shown)}; --limit shows more.")


def page_size(limit: int | None) -> int:
    """How many to ask for at a time: no more than are shown, and one by which it is known that there are more."""
    return PAGE if limit is None else min(PAGE, limit + 1)
