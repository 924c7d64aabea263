"""Pages: one way to fill them, whatever the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.schemas.errors import about_field

T = TypeVar("T")


async def fill_page(
    fetch: Callable[[int, T | None], Awaitable[Sequence[T]]],
    limit: int,
    *,
    keep: Callable[[T], bool] = lambda _: True,
) -> tuple[list[T], bool]:
    """(at most `limit` objects, whether there are more).

    `fetch(limit, after)` gives the next objects, fewer than `limit` only at the end; those that `keep` declines are
    passed over.
    """
    found: list[T] = []
    after: T | None = None
    while len(found) <= limit:
        batch = await fetch(limit + 1, after)
        found += [item for item in batch if keep(item)]
        if len(batch) <= limit:
            break
        after = batch[-1]
    return found[:limit], len(found) > limit


def check_cursor(cursor: str | None, prefix: str) -> None:
    """Refuses a cursor that cannot be an id of the list. One whose object is gone still positions.

    Raises:
        PlatformError: `invalid_cursor`.
    """
    if cursor is not None and not is_id(cursor, prefix):
        raise invalid_cursor(f"Pass an id of this list ({prefix}_…), as its page gave it.")


def invalid_cursor(message: str) -> PlatformError:
    """The 400 about `starting_after`."""
    return about_field("starting_after", PlatformError("invalid_cursor", message))
