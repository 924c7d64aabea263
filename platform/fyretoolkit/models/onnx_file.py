"""A first look at a file that should be an ONNX model, cheap enough for the process that serves everybody.

Most of what is deployed by mistake is no ONNX at all: a web page, a pickle, a download that was cut short. Only the
top-level fields of the protobuf message are walked: lengths that point past the end give a truncated upload away, and
random bytes do not survive it. What is inside is looked at in the sandbox (`onnx_scan.py`). ONNX Runtime would also
load its own .ort files (FlatBuffers, by content), whose reader trusts them more; only ONNX is served. Source:
onnx.proto3, ModelProto.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.onnx_wire import Budget, MalformedError, Message

_GRAPH_FIELD = 7
_MOST_FIELDS = 50_000
"""At the top: one for each function, domain and entry of the metadata."""
_HEAD_BYTES = 64
_MISTAKEN = (
    (b"<", "a web page. Link to the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer. Fetch the file with `git lfs pull`"),
    (b"\x80\x02", "a Python pickle, which is never loaded. Export the model to ONNX"),
    (b"\x80\x03", "a Python pickle, which is never loaded. Export the model to ONNX"),
    (b"\x80\x04", "a Python pickle, which is never loaded. Export the model to ONNX"),
    (b"\x80\x05", "a Python pickle, which is never loaded. Export the model to ONNX"),
    (b"\x89HDF", "an HDF5 file. Export the model to ONNX"),
)
"""How other files begin that are taken for models; none of them is a protobuf message that is one."""


def check_onnx_file(path: Path) -> None:
    """Refuses a file that cannot be an ONNX model.

    Raises:
        PlatformError: `invalid_onnx`, saying what the file is instead; `artifact_too_large`, it has too many parts.
    """
    if path.stat().st_size == 0:
        raise PlatformError("invalid_onnx", "The model file is empty. Export the model again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[4:8] == b"ORTM":
            raise PlatformError(
                "invalid_onnx", "The file is in ONNX Runtime's .ort format. Send the .onnx file."
            )
        head = content[:_HEAD_BYTES].lstrip()
        for beginning, what in _MISTAKEN:
            if head.startswith(beginning):
                raise PlatformError("invalid_onnx", f"The file is {what}.")
        try:
            message = Message(content, 0, len(content), Budget(_MOST_FIELDS))
            has_graph = _GRAPH_FIELD in {field for field, _ in message.fields()}
        except MalformedError:
            raise PlatformError(
                "invalid_onnx",
                "The file is not ONNX, or was cut short. Export the model again, or upload it again.",
            ) from None
        if not has_graph:
            raise PlatformError("invalid_onnx", "The file holds no graph. Export the model again.")
