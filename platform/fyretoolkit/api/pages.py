"""Pages: one way to fill them, whatever the list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.schemas.errors import about_field
from fyretoolkit.schemas.pages import PageQuery


class Identified(Protocol):
    """A record with an id."""

    @property
    def id(self) -> str:
        """The cursor that positions behind it."""
        ...


T = TypeVar("T")
R = TypeVar("R", bound=Identified)


class IdOrdered(Protocol[R]):
    """A store of records whose ids sort by time."""

    async def page(self, org: str, limit: int, *, starting_after: str | None = None) -> list[R]:
        """Newest first, all older than `starting_after`; fewer than `limit` at the end of the list alone."""
        ...


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


async def page_by_id(
    org: str, query: PageQuery, source: IdOrdered[R], *, keep: Callable[[R], bool] = lambda _: True
) -> tuple[list[R], bool]:
    """`fill_page` for an organization's records whose ids sort by time; `check_cursor` has seen the query's cursor."""

    async def fetch(limit: int, after: R | None) -> Sequence[R]:
        cursor = after.id if after else query.starting_after
        return await source.page(org, limit, starting_after=cursor)

    return await fill_page(fetch, query.limit, keep=keep)


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
