"""Reading protobuf fields where they lie: no message is built, no payload is copied, every step is counted.

A stranger's file decides how much there is to read, so all readers of one file share a `Budget`. Runs of unpacked
numbers, which is how ONNX writes a forest's million thresholds, are passed over by a regular expression: a step in
Python each would cost seconds. The `onnx` package was rejected: it builds the whole message before anything can be
asked of it, and has had its own defects with hostile files. Source: protobuf's encoding guide.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fyretoolkit.core.errors import PlatformError

Content = bytes | mmap.mmap

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
HIGHEST_FIELD = 100
"""ONNX has numbers up to 26, and no extensions: what is far above is no ONNX."""
MAX_STEPS = 3_000_000
"""Fields of one file that are looked at; a transformer's graph has some ten thousand. About two seconds."""
_MAX_VARINT_BYTES = 10
_MAX_NAME_BYTES = 4096
_UINT64 = (1 << 64) - 1
_RUN_LENGTH = 10_000
"""Of one match, for which the interpreter is held: a millisecond or so."""


class MalformedError(ValueError):
    """The bytes are no protobuf message, or not the one they should be."""


class Budget:
    """Counts the fields that are looked at."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._steps = self._left = steps

    def take(self, steps: int = 1) -> None:
        """One step more.

        Raises:
            PlatformError: `artifact_too_large`, none is left.
        """
        self._left -= steps
        if self._left < 0:
            raise PlatformError(
                "artifact_too_large",
                f"The model has more than {self._steps} parts. Export a smaller graph, its weights as raw data.",
            )


@dataclass(slots=True)  # not frozen: millions are made, and that would double what each costs
class Message:
    """A message that lies in `content` from `start` to `end`."""

    content: Content
    start: int
    end: int
    budget: Budget

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end - self.start

    def fields(self, passing_over: re.Pattern[bytes] | None = None) -> Iterator[tuple[int, int | Message]]:
        """(field, value): a number for VARINT, else where the bytes lie; without what `passing_over` matches.

        Raises:
            MalformedError: at the first thing that no message of ONNX holds.
        """
        position = self.start
        while position < self.end:
            self.budget.take()
            if passing_over and (match := passing_over.match(self.content, position, self.end)):
                position = match.end()
                continue
            field, value, position = self._field(position)
            yield field, value

    def _field(self, position: int) -> tuple[int, int | Message, int]:
        """Field and value at a position, and where the next one begins."""
        content, end = self.content, self.end
        key, position = _varint(content, position, end)
        field, wire = key >> 3, key & 7
        if not 0 < field <= HIGHEST_FIELD:
            raise MalformedError(f"field {field}")
        if wire == VARINT:
            value, position = _varint(content, position, end)
            return field, value, position
        if wire == LENGTH:
            length, position = _varint(content, position, end)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise MalformedError(f"wire type {wire}")
        if length > end - position:
            raise MalformedError("a field ends past the end")
        return field, Message(content, position, position + length, self.budget), position + length

    def name(self) -> str:
        """Its bytes as a short text, for comparison and for messages.

        Raises:
            MalformedError: it is longer than any name.
        """
        if self.size > _MAX_NAME_BYTES:
            raise MalformedError("a name of thousands of bytes")
        return self.content[self.start : self.end].decode("utf-8", "replace")

    def varints(self) -> Iterator[int]:
        """Its packed numbers."""
        position = self.start
        while position < self.end:
            self.budget.take()
            value, position = _varint(self.content, position, self.end)
            yield value


def unpacked_run(*, floats: int, ints: int, strings: int, known: Sequence[bytes]) -> re.Pattern[bytes]:
    """What passes over unpacked numbers of these two fields, and over the short `known` ones of the third.

    The numbers of the fields are below 16.
    """
    one = [
        re.escape(bytes([floats << 3 | FIXED32])) + rb"[\s\S]{4}",
        re.escape(bytes([ints << 3 | VARINT])) + rb"[\x80-\xff]{0,9}[\x00-\x7f]",
        *(re.escape(bytes([strings << 3 | LENGTH, len(text)]) + text) for text in known),
    ]
    return re.compile(rb"(?:%s){1,%d}+" % (b"|".join(one), _RUN_LENGTH))


def _varint(content: Content, position: int, end: int) -> tuple[int, int]:
    if position < end and (byte := content[position]) < 0x80:  # nearly all are of one byte
        return byte, position + 1
    value = 0
    for number in range(min(_MAX_VARINT_BYTES, end - position)):
        byte = content[position + number]
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return value & _UINT64, position + number + 1
    raise MalformedError("a number without end")
