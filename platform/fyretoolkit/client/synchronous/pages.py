# Generated from ../asynchronous/pages.py by scripts/describe: change that one.
"""Pages of a list, and everything behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from fyretoolkit.client.calls import get
from fyretoolkit.client.reading import read_page
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.wire import Resource

R = TypeVar("R", bound=Resource)


class Page(Generic[R]):
    """One page, newest first. Iterating goes on into the pages behind it, which are read when they are reached."""

    def __init__(
        self, transport: Transport, kind: type[R], path: str, query: dict[str, object], content: bytes
    ) -> None:
        data, has_more = read_page(kind, content, context=transport)
        self.data: list[R] = data
        """The objects of this page alone."""
        self.has_more: bool = has_more
        """Whether there are pages behind it."""
        self._transport = transport
        self._kind = kind
        self._path = path
        self._query = query

    def next_page(self) -> Page[R] | None:
        """The page behind this one; None if it is the last."""
        if not self.has_more or not self.data:
            return None
        last: object = getattr(self.data[-1], "id")  # noqa: B009 - every listed resource has one
        query = {**self._query, "starting_after": last}
        return page_of(self._transport, self._kind, self._path, query)

    def pages(self) -> Iterator[Page[R]]:
        """This page and all behind it."""
        page: Page[R] | None = self
        while page is not None:
            yield page
            page = page.next_page()

    def __iter__(self) -> Iterator[R]:
        """Every object of this page and of all behind it."""
        for page in self.pages():
            for each in page.data:
                yield each

    def __repr__(self) -> str:
        """How many there are here, and whether there are more."""
        return f"<{type(self).__name__} of {len(self.data)}{', and more' if self.has_more else ''}>"


def page_of(transport: Transport, kind: type[R], path: str, query: dict[str, object]) -> Page[R]:
    """The page that a query asks for."""
    content = transport.send(get(path, **query))
    return Page(transport, kind, path, query, content)
