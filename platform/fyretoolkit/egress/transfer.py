"""One fetch under way: its bounds, where its bytes go, and what its failures are called."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.egress.pinned import Resolver
from fyretoolkit.egress.spool import Spool, in_thread
from fyretoolkit.egress.urls import ParsedUrl

PACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for a connection to one address, between two reads, and for the whole fetch with its redirects."""

    connect_s: float
    read_s: float
    total_s: float
    min_bytes_per_s: int = 0
    """Over each minute: a source that sends a byte now and then would hold its fetch for all of `total_s`."""


class FailureCodes(TypedDict):
    """The codes of the catalogue by which one kind of source reports its failures."""

    not_found_code: str
    unreachable_code: str
    too_large_code: str
    changed_code: NotRequired[str]
    """Of a file that became another one while it was fetched; without it, that one is fetched from its beginning."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was received whole."""

    path: Path
    size_bytes: int
    sha256: str
    content_type: str | None
    """The Content-Type header; None for a file, or when the server sent none."""
    etag: str | None
    final_url: str
    """Where the last redirect led, without its query: fit for logs, not for a new fetch."""
    name: str
    """An upload's own file name, else the last part of the first URL's path: its suffix says the format. No path."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What stays the same over all hops and attempts of one fetch."""

    spool: Spool
    destination: Path
    max_bytes: int
    timeouts: Timeouts
    resolve: Resolver
    codes: FailureCodes
    name: str

    def gone(self, url: ParsedUrl) -> PlatformError:
        """The error of an upload that is not there any more."""
        return PlatformError(
            self.codes["not_found_code"],
            f"The file {url.shown} was deleted or has expired. Upload it again with POST /files.",
        )

    def unreachable(self, url: ParsedUrl, why: str) -> PlatformError:
        """The error of a source that did something wrong; `why` follows its name."""
        return PlatformError(self.codes["unreachable_code"], f"{url.authority} {why}.")

    def missing(self, url: ParsedUrl, status: int) -> PlatformError:
        """The error of a server that has no such file."""
        return PlatformError(
            self.codes["not_found_code"], f"{url.authority} answered {status}: check the URL."
        )

    def ensure_fits(self, size_bytes: int) -> None:
        """Refuses a source of `size_bytes`, or of at least that many."""
        if size_bytes > self.max_bytes:
            raise PlatformError(
                self.codes["too_large_code"], f"The file is larger than the limit of {self.max_bytes} bytes."
            )

    def ensure_room(self, size_bytes: int) -> None:
        """Refuses a source of `size_bytes` for which the disk has no room."""
        self.spool.ensure_room(size_bytes - self.spool.size_bytes)

    def changed(self, url: ParsedUrl) -> PlatformError | None:
        """The error of a file that became another one meanwhile; None where the other one will do."""
        code = self.codes.get("changed_code")
        if code is None:
            return None
        return PlatformError(
            code,
            f"{url.shown} was changed while it was fetched. Create a new job over a file that stays as it is.",
        )

    async def published(
        self, url: ParsedUrl, *, content_type: str | None = None, etag: str | None = None
    ) -> Fetched:
        """The whole file, durable and at its destination."""
        await in_thread(self.spool.publish)
        spool = self.spool
        return Fetched(
            self.destination, spool.size_bytes, spool.sha256, content_type, etag, url.shown, self.name
        )


class Pace:
    """Whether a source keeps up with the least that is asked of it, looked at once a minute."""

    def __init__(self, min_bytes_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._min_bytes = min_bytes_per_s * PACE_S
        self._clock = clock
        self._began_at = clock()
        self._received = 0

    def is_kept(self, received: int) -> bool:
        """Whether it is, with so many bytes that came now."""
        self._received += received
        if self._clock() - self._began_at < PACE_S:
            return True
        is_kept = self._received >= self._min_bytes
        self._began_at, self._received = self._clock(), 0
        return is_kept
