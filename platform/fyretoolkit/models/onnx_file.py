"""A first look at a file that should be an ONNX model, before anything parses it in earnest.

ONNX Runtime also loads its own .ort files (FlatBuffers, by content), whose reader trusts them more; only ONNX is
served. The look walks the top-level fields of the protobuf message: lengths that point past the end give a truncated
upload away, and random bytes do not survive it. Source: onnx.proto3, ModelProto; protobuf's encoding guide.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from fyretoolkit.core.errors import PlatformError

_GRAPH_FIELD = 7
_HIGHEST_FIELD = 100
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def check_onnx_file(path: Path) -> None:
    """Refuses a file that cannot be an ONNX model.

    Raises:
        PlatformError: `invalid_onnx`, saying what the file is instead.
    """
    if path.stat().st_size == 0:
        raise PlatformError("invalid_onnx", "The model file is empty. Export the model again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[4:8] == b"ORTM":
            raise PlatformError(
                "invalid_onnx", "The file is in ONNX Runtime's .ort format. Send the .onnx file."
            )
        try:
            has_graph = _GRAPH_FIELD in _top_level_fields(content)
        except (ValueError, IndexError):
            raise PlatformError(
                "invalid_onnx",
                "The file is not ONNX, or was cut short. Export the model again, or upload it again.",
            ) from None
        if not has_graph:
            raise PlatformError("invalid_onnx", "The file holds no graph. Export the model again.")


def _top_level_fields(content: mmap.mmap) -> set[int]:
    """Numbers of the message's fields. Raises ValueError or IndexError at the first thing no ModelProto holds."""
    fields: set[int] = set()
    position, size = 0, len(content)
    while position < size:
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        if not 0 < number <= _HIGHEST_FIELD:
            raise ValueError(number)
        fields.add(number)
        if wire == _VARINT:
            _, position = _varint(content, position)
        elif wire == _LENGTH:
            length, position = _varint(content, position)
            position += length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(wire)
    if position != size:
        raise ValueError("the last field ends past the end")
    return fields


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        byte = content[position + shift]
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise ValueError("a number of more than ten bytes")
