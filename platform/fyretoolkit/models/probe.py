"""The child that opens a stranger's model: what `python -m fyretoolkit.models.probe` does.

It imports everything first, says so with a line, and waits: this costs most of a second, so one is started before it
is needed. Its one request comes as JSON on standard input; then it shuts itself in, scans the model's bytes, loads it,
runs one example and answers with JSON on what was its standard output. One that nobody asks ends with its owner.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fyretoolkit.models.sandbox import Bounds, Fence, die_with_parent, leave_network, restrict

_NEEDED = (
    "numpy.random",
    "tokenizers",
    "fyretoolkit.models.manifest",
    "fyretoolkit.models.onnx_scan",
    "fyretoolkit.models.runner",
    "fyretoolkit.models.warmup",
)


def main() -> None:
    """Wait for the request, answer it, end."""
    die_with_parent()
    has_network = not leave_network()
    _import_all()
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not mix with the answer
    answer_to.write(b"\n")
    answer_to.flush()
    content = sys.stdin.buffer.read()
    if content:
        answer_to.write(json.dumps(_answer(json.loads(content), has_network)).encode())
        answer_to.flush()
    os._exit(0)  # taking a runtime down in order takes longer than all else here


def _import_all() -> None:
    """Everything that a model may need, libraries included: afterwards little can be read."""
    for name in _NEEDED:
        import_module(name)


def _answer(request: Mapping[str, Any], has_network: bool) -> dict[str, object]:
    from fyretoolkit.core.errors import PlatformError

    paths = [Path(request[name]) for name in ("onnx", "manifest", "tokenizer") if request[name]]
    standing = restrict(Bounds(request["cpu_s"], request["memory_bytes"]), paths)
    if not has_network:
        standing.add(Fence.NAMESPACES)
    answer: dict[str, object] = {"missing": sorted({*Fence} - standing)}
    try:
        answer["spec"] = _inspect(request)
    except PlatformError as error:
        answer["error"] = {"code": error.code, "message": error.message}
    except MemoryError:
        message = "The model needs more memory to load than is allowed. Use a smaller model."
        answer["error"] = {"code": "artifact_too_large", "message": message}
    return answer


def _inspect(request: Mapping[str, Any]) -> dict[str, Any]:
    from fyretoolkit.models.manifest import read_manifest
    from fyretoolkit.models.onnx_scan import scan_onnx
    from fyretoolkit.models.runner import read_tokenizer
    from fyretoolkit.models.session import open_session
    from fyretoolkit.models.spec import resolve
    from fyretoolkit.models.warmup import settle

    onnx = Path(request["onnx"])
    scan_onnx(onnx)
    manifest = read_manifest(Path(request["manifest"])) if request["manifest"] else None
    tokenizer = read_tokenizer(Path(request["tokenizer"]) if request["tokenizer"] else None)
    session = open_session(onnx)
    spec = resolve(manifest, session.signature, has_tokenizer=tokenizer is not None)
    return settle(session, spec, tokenizer).to_json()


if __name__ == "__main__":
    main()
