"""Pages of a list, and everything behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import get
from fyretoolkit.client.reading import read_page
from fyretoolkit.schemas.wire import Resource

R = TypeVar("R", bound=Resource)


class AsyncPage(Generic[R]):
    """One page, newest first. Iterating goes on into the pages behind it, which are read when they are reached."""

    def __init__(
        self, transport: AsyncTransport, kind: type[R], path: str, query: dict[str, object], content: bytes
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

    async def next_page(self) -> AsyncPage[R] | None:
        """The page behind this one; None if it is the last."""
        if not self.has_more or not self.data:
            return None
        last: object = getattr(self.data[-1], "id")  # noqa: B009 - every listed resource has one
        query = {**self._query, "starting_after": last}
        return await async_page_of(self._transport, self._kind, self._path, query)

    async def pages(self) -> AsyncIterator[AsyncPage[R]]:
        """This page and all behind it."""
        page: AsyncPage[R] | None = self
        while page is not None:
            yield page
            page = await page.next_page()

    async def __aiter__(self) -> AsyncIterator[R]:
        """Every object of this page and of all behind it."""
        async for page in self.pages():
            for each in page.data:
                yield each

    def __repr__(self) -> str:
        """How many there are here, and whether there are more."""
        return f"<{type(self).__name__} of {len(self.data)}{', and more' if self.has_more else ''}>"


async def async_page_of(
    transport: AsyncTransport, kind: type[R], path: str, query: dict[str, object]
) -> AsyncPage[R]:
    """The page that a query asks for."""
    content = await transport.send(get(path, **query))
    return AsyncPage(transport, kind, path, query, content)
