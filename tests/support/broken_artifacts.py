"""Artifacts that nobody can serve, each with the code that its deployment must fail with.

`tests/unit/models` inspects each of them, `scripts/chaos artifacts` deploys all of them one after another while another
model is in use, `tests/system` some of them.
"""

from __future__ import annotations

import gzip
import io
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import broken_graphs, onnx_graphs

GRAPH = onnx_graphs.echo("float32", ["N", 3])
_CHUNK = bytes(1 << 20)
_SYMLINK = 0o120777 << 16


@dataclass(frozen=True, slots=True)
class BrokenArtifact:
    """One of them: its name, the code, and how it is made."""

    name: str
    code: str
    write: Callable[[Path, int], Path]
    """(an empty folder, the platform's `max_artifact_bytes`) → the file or folder in it that is deployed."""
    is_fetched: bool = False
    """Deployed by the URL of an HTTP server over the folder, not by its path."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """More of the body of POST /deployments."""
    is_slow: bool = False
    """It takes the whole time of an inspection."""


def _file(name: str, make: Callable[[], bytes]) -> Callable[[Path, int], Path]:
    def write(folder: Path, max_bytes: int) -> Path:
        path = folder / name
        path.write_bytes(make())
        return path

    return write


def _model(make: Callable[[], bytes]) -> Callable[[Path, int], Path]:
    return _file("model.onnx", make)


def _package(files: Mapping[str, Callable[[], bytes]]) -> Callable[[Path, int], Path]:
    def write(folder: Path, max_bytes: int) -> Path:
        package = folder / "package"
        package.mkdir()
        for name, make in files.items():
            (package / name).write_bytes(make())
        return package

    return write


def _described(manifest: str, make: Callable[[], bytes] = lambda: GRAPH) -> Callable[[Path, int], Path]:
    return _package({"model.onnx": make, "model.yaml": manifest.encode})


def _linked_data(folder: Path, max_bytes: int) -> Path:
    (folder / "package").mkdir()
    (folder / "package" / "weights").symlink_to("/etc/passwd")
    (folder / "package" / "model.onnx").write_bytes(broken_graphs.external_data("weights"))
    return folder / "package"


def _linked_model(folder: Path, max_bytes: int) -> Path:
    (folder / "package").mkdir()
    (folder / "package" / "model.onnx").symlink_to("/etc/passwd")
    return folder / "package"


def _nothing(folder: Path, max_bytes: int) -> Path:
    return folder / "missing.onnx"


def _zip(members: Mapping[str | zipfile.ZipInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _linked_zip() -> bytes:
    link = zipfile.ZipInfo("model.onnx")
    link.external_attr = _SYMLINK
    return _zip({link: b"/etc/passwd"})


def _tar(link: tarfile.TarInfo | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        model = tarfile.TarInfo("model.onnx")
        model.size = len(GRAPH)
        archive.addfile(model, io.BytesIO(GRAPH))
        if link:
            archive.addfile(link)
    return file.getvalue()


def _linked_tar() -> bytes:
    link = tarfile.TarInfo("model.yaml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return _tar(link)


def _device_tar() -> bytes:
    device = tarfile.TarInfo("tokenizer.json")
    device.type = tarfile.FIFOTYPE
    return _tar(device)


def _zip_bomb(folder: Path, max_bytes: int) -> Path:
    path = folder / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("model.onnx", "w", force_zip64=True) as member,
    ):
        for _ in range(max_bytes // len(_CHUNK) + 1):
            member.write(_CHUNK)
    return path


def _tar_bomb(folder: Path, max_bytes: int) -> Path:
    """A file that does not belong to a package is unpacked too, to get past it."""
    path = folder / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as archive:
        entry = tarfile.TarInfo("notes.txt")
        entry.size = max_bytes + (64 << 20)
        archive.write(entry.tobuf())
        for _ in range(entry.size // len(_CHUNK)):
            archive.write(_CHUNK)
    return path


def _random_bytes() -> bytes:
    return random.Random(7).randbytes(200_000)


_CASES: tuple[tuple[str, str, Callable[[Path, int], Path]], ...] = (
    ("truncated", "invalid_onnx", _model(lambda: GRAPH[: len(GRAPH) * 2 // 3])),
    ("random bytes", "invalid_onnx", _model(_random_bytes)),
    ("empty", "invalid_onnx", _model(bytes)),
    ("a pickle", "invalid_onnx", _model(lambda: pickle.dumps({"weights": [1.0]}))),
    (".ort format", "invalid_onnx", _model(lambda: b"\x18\0\0\0ORTM" + bytes(200))),
    ("broken graph in a sound file", "invalid_onnx", _model(broken_graphs.unconnected)),
    ("external data, absolute", "invalid_onnx", _model(lambda: broken_graphs.external_data("/etc/passwd"))),
    ("external data, relative", "invalid_onnx", _model(lambda: broken_graphs.external_data("../../secret"))),
    ("external data, by a link", "invalid_onnx", _linked_data),
    ("external data, in memory", "invalid_onnx",
     _model(lambda: broken_graphs.external_data("*/_ORT_MEM_ADDR_/*"))),
    ("external data in an attribute", "invalid_onnx", _model(broken_graphs.external_attribute)),
    ("function bomb", "artifact_too_large", _model(broken_graphs.function_bomb)),
    ("function that calls itself", "invalid_onnx", _model(lambda: broken_graphs.recursion(1))),
    ("functions in a circle", "invalid_onnx", _model(lambda: broken_graphs.recursion(3))),
    ("graphs nested too deep", "invalid_onnx", _model(lambda: broken_graphs.nested(40))),
    ("too many nodes", "artifact_too_large", _model(lambda: broken_graphs.many_nodes(100_001))),
    ("4 GiB tensor", "artifact_too_large", _model(lambda: broken_graphs.tensor_of([1 << 30]))),
    ("tensor without its data", "invalid_onnx", _model(lambda: broken_graphs.tensor_of([1 << 20]))),
    ("sparse tensor of 4 GiB", "artifact_too_large", _model(lambda: broken_graphs.sparse([1 << 15, 1 << 15]))),
    ("huge ConstantOfShape", "warmup_failed", _model(onnx_graphs.hungry)),
    ("memory eaten while running", "warmup_failed", _model(broken_graphs.greedy)),
    ("custom domain", "unsupported_operator",
     _model(lambda: onnx_graphs.unknown_operator("Magic", "com.example"))),
    ("unknown operator", "unsupported_operator", _model(onnx_graphs.unknown_operator)),
    ("Microsoft operator not served", "unsupported_operator",
     _model(lambda: onnx_graphs.unknown_operator("BeamSearch", "com.microsoft"))),
    ("EPContext", "unsupported_operator",
     _model(lambda: onnx_graphs.unknown_operator("EPContext", "com.microsoft"))),
    ("wrong opset", "unsupported_operator", _model(lambda: broken_graphs.versions(opset=99))),
    ("newer file format", "invalid_onnx", _model(lambda: broken_graphs.versions(ir=99))),
    ("no batch axis", "signature_mismatch", _model(lambda: onnx_graphs.echo("float32", []))),
    ("fixed batch axis", "signature_mismatch", _model(lambda: onnx_graphs.echo("float32", [7, 3]))),
    ("fails on its example", "warmup_failed", _described("example: 99", onnx_graphs.lookup)),
    ("manifest that disagrees", "signature_mismatch", _described("inputs: {kind: text}")),
    ("bad YAML", "invalid_manifest", _described("inputs: [")),
    ("unknown field in the manifest", "invalid_manifest", _described("imputs: {}")),
    ("model that is a link", "invalid_package", _linked_model),
    ("package without a model", "invalid_package", _package({"model.yaml": lambda: b"id: x"})),
    ("zip slip", "invalid_package", _file("a.zip", lambda: _zip({"../../model.onnx": GRAPH}))),
    ("link in a zip", "invalid_package", _file("a.zip", _linked_zip)),
    ("link in a tar", "invalid_package", _file("a.tar.gz", _linked_tar)),
    ("device in a tar", "invalid_package", _file("a.tar.gz", _device_tar)),
    ("half an archive", "invalid_package", _file("a.tar.gz", lambda: _tar()[:-40])),
    ("two models in an archive", "invalid_package",
     _file("a.zip", lambda: _zip({"a/model.onnx": GRAPH, "b/model.onnx": GRAPH}))),
    ("zip bomb", "artifact_too_large", _zip_bomb),
    ("tar bomb", "artifact_too_large", _tar_bomb),
    ("nothing there", "artifact_not_found", _nothing),
)  # fmt: skip

LOCAL = (
    *(BrokenArtifact(*case) for case in _CASES),
    BrokenArtifact("infinite loop at warm-up", "load_timeout", _model(onnx_graphs.endless), is_slow=True),
)
"""Those that a folder holds and an inspection judges."""

FETCHED = (
    BrokenArtifact("404", "artifact_not_found", _nothing, is_fetched=True),
    BrokenArtifact(
        "a web page",
        "invalid_onnx",
        _model(lambda: b"<!DOCTYPE html><title>Sign in</title>"),
        is_fetched=True,
    ),
    BrokenArtifact(
        "checksum mismatch",
        "checksum_mismatch",
        _model(lambda: GRAPH),
        is_fetched=True,
        fields={"sha256": "0" * 64},
    ),
)
"""Those that something is wrong with on their way."""

BROKEN = (*LOCAL, *FETCHED)
