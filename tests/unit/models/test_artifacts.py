"""The artifact store: content in, digest out, once and for ever."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.artifacts import ArtifactStore
from tests.support.model_packages import word_tokenizer, write_package
from tests.support.onnx_graphs import echo

GRAPH = echo("float32", ["N", 2])


def test_a_package_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """All three files, read-only; storing it again changes nothing."""
    files = write_package(tmp_path / "p", GRAPH, "id: m\n", word_tokenizer())
    store = ArtifactStore(tmp_path / "store")
    artifact = store.put(files)
    back = store.open(artifact.sha256)
    assert back.onnx.read_bytes() == GRAPH
    assert back.manifest is not None
    assert back.manifest.id == "m"
    assert back.tokenizer is not None
    assert back.tokenizer.read_text() == word_tokenizer()
    assert stat.S_IMODE(back.onnx.stat().st_mode) == 0o444
    assert artifact.size_bytes == len(GRAPH) + len("id: m\n") + len(word_tokenizer())
    before = back.onnx.stat()
    assert store.put(files) == artifact
    assert back.onnx.stat().st_ino == before.st_ino


def test_the_digest_covers_every_file(tmp_path: Path) -> None:
    """The same graph with other words around it is another artifact, and where it lay does not matter."""
    store = ArtifactStore(tmp_path / "store")
    full = write_package(tmp_path / "a", GRAPH, "id: m\n", "{}")
    variants = [
        full,
        write_package(tmp_path / "b", GRAPH, "id: n\n", "{}"),
        write_package(tmp_path / "c", GRAPH, "id: m\n", "[]"),
        write_package(tmp_path / "d", GRAPH, "id: m\n"),
        replace(full, manifest=None, manifest_path=None),
        write_package(tmp_path / "e", echo("float32", ["N", 3]), "id: m\n", "{}"),
    ]
    digests = {store.put(files).sha256 for files in variants}
    assert len(digests) == len(variants)
    assert store.put(write_package(tmp_path / "f", GRAPH, "id: m\n", "{}")).sha256 in digests


def test_many_writers_of_one_package_leave_one_folder(tmp_path: Path) -> None:
    """Nothing half-written stays behind."""
    files = write_package(tmp_path / "p", GRAPH)
    store = ArtifactStore(tmp_path / "store")
    with ThreadPoolExecutor(8) as pool:
        artifacts = set(pool.map(lambda _: store.put(files), range(32)))
    assert len(artifacts) == 1
    assert [path.name for path in store.root.iterdir()] == [artifacts.pop().sha256]


@pytest.mark.parametrize("digest", ["0" * 64, "..", "../../etc", "", "A" * 64, "０" * 64])
def test_what_is_not_there_is_not_found(tmp_path: Path, digest: str) -> None:
    """A digest is no path."""
    with pytest.raises(PlatformError) as caught:
        ArtifactStore(tmp_path).open(digest)
    assert caught.value.code == "artifact_not_found"
