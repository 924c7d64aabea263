"""What was committed of a job, read before it is assembled: the bytes with which the assembled file will begin.

Nothing is copied: the parts are read one after another, each checked against its digest, in blocks. A part is never
written again, so what was read once stays as it was and only more follows; that is what makes ranges of it useful.
Parts vanish when their job completed, which is after the assembled file is there: the reader goes on in that one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from batch import tables
from batch.assembly import checked_blocks
from batch.parts import PartFile

_Piece = tuple[int, Callable[[], Iterator[bytes]]]
_SIZES_KEPT = 100_000


class Committed:
    """One of a job's two files, as far as it is committed. Every call reads the disk."""

    def __init__(self, folder: Path, files: Sequence[PartFile], *, is_csv: bool = False) -> None:
        """`files`: those of the committed parts in `folder`, in order. `is_csv`: they are results to show as CSV."""
        self._folder = folder
        self._files = files
        self._is_csv = is_csv

    def measure(self) -> int:
        """How many bytes there are. For CSV every part is converted to know, once in a process.

        Raises:
            FileNotFoundError: a part has vanished.
            PlatformError: `run_failed`, a part is not what was committed.
        """
        return sum(size for size, _ in self._pieces())

    def blocks(self, start: int = 0) -> Generator[bytes]:
        """The bytes from `start` on.

        Raises:
            FileNotFoundError, PlatformError: as `measure`; all bytes before were right.
        """
        for size, read in self._pieces():
            if start >= size:
                start -= size
                continue
            for block in read():
                if start < len(block):
                    yield block[start:]
                start = max(0, start - len(block))

    def _pieces(self) -> Iterator[_Piece]:
        if not self._is_csv:
            yield from (
                (file.size_bytes, partial(checked_blocks, self._folder, file)) for file in self._files
            )
            return
        filled = [file for file in self._files if file.size_bytes]
        if not filled:
            return  # the columns are not known before the first result is
        columns = _columns(self._folder, filled[0])
        header = tables.header(columns)
        yield len(header), partial(iter, [header])
        for file in filled:
            yield _table_size(self._folder, file, columns), partial(_table, self._folder, file, columns)


def _columns(folder: Path, file: PartFile) -> tuple[str, ...]:
    """Of the first result; those of one model all have the same fields, by its spec."""
    with (folder / file.name).open("rb") as lines:
        return tables.find_columns([lines.readline()])


def _table(folder: Path, file: PartFile, columns: tuple[str, ...]) -> Iterator[bytes]:
    yield tables.rows(b"".join(checked_blocks(folder, file)).splitlines(), columns)


@lru_cache(maxsize=_SIZES_KEPT)
def _table_size(folder: Path, file: PartFile, columns: tuple[str, ...]) -> int:
    return sum(map(len, _table(folder, file, columns)))
