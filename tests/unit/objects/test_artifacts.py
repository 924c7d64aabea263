"""The artifact store on object storage: a real S3 server, and caches of several nodes in front of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.models.artifact_cache import IN_USE_S
from fyretoolkit.models.artifacts import ArtifactStore, Origin
from fyretoolkit.models.package import PackageFiles
from fyretoolkit.objects import artifacts
from fyretoolkit.objects.artifacts import MARKER, BucketArtifacts, open_artifacts
from fyretoolkit.settings import PROJECT_ROOT, EgressSettings, S3Settings, Settings
from tests.support.model_packages import word_tokenizer, write_package
from tests.support.onnx_graphs import echo
from tests.support.s3_server import CREDENTIALS, S3Server

GRAPH = echo("float32", ["N", 2])


@dataclass
class Bucket:
    """A prefix of its own in a bucket, and nodes that keep their artifacts there."""

    s3: S3Server
    path: str
    folder: Path
    origin: BucketArtifacts

    def node(self, name: str, cache_bytes: int = 1 << 30) -> ArtifactStore:
        """The store as a node with this name sees it."""
        return ArtifactStore(self.folder / name, self.origin, cache_bytes)

    def names(self) -> set[str]:
        """What lies there, beneath the prefix."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        found = self.s3.client().get_file_info(selector)
        return {each.path.removeprefix(f"{self.path}/") for each in found if each.is_file}


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> Bucket:
    """An empty one."""
    path = f"store/{uuid4().hex}"
    s3.put("store/other", b"")
    origin = BucketArtifacts(path, S3Settings(**s3.settings), EgressSettings())
    return Bucket(s3, path, tmp_path, origin)


@pytest.fixture
def files(tmp_path: Path) -> PackageFiles:
    """A package of three files."""
    return write_package(tmp_path / "package", GRAPH, "id: m\n", word_tokenizer())


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(PlatformError) as caught:
        call()
    assert not any(value in caught.value.message for value in CREDENTIALS.values() if value != "true")
    return caught.value.code


def test_what_one_node_put_another_opens(bucket: Bucket, files: PackageFiles) -> None:
    """The same files under the same digest as in a folder, read-only, and with nothing beside them."""
    artifact = bucket.node("a").put(files)
    assert artifact == ArtifactStore(bucket.folder / "plain").put(files)
    names = {"model.onnx", "model.yaml", "tokenizer.json", MARKER}
    assert bucket.names() == {f"{artifact.sha256}/{name}" for name in names}
    node = bucket.node("b")
    opened = node.open(artifact.sha256)
    assert (opened.onnx.read_bytes(), opened.manifest) == (GRAPH, files.manifest)
    assert opened.tokenizer is not None
    assert opened.tokenizer.read_text() == word_tokenizer()
    assert opened.onnx.stat().st_mode & 0o777 == 0o444
    assert [path.name for path in node.root.iterdir()] == [artifact.sha256]


def test_what_is_there_is_not_sent_again(
    bucket: Bucket, files: PackageFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever node; but a file that was lost is."""
    sent: list[str] = []
    send = artifacts._send

    def noted(client: object, source: Path, path: str) -> None:
        sent.append(source.name)
        send(client, source, path)

    monkeypatch.setattr(artifacts, "_send", noted)
    artifact = bucket.node("a").put(files)
    assert sorted(sent) == ["model.onnx", "model.yaml", "tokenizer.json"]
    assert bucket.node("a").put(files) == bucket.node("b").put(files) == artifact
    assert len(sent) == 3
    bucket.s3.client().delete_file(f"{bucket.path}/{artifact.sha256}/model.yaml")
    assert code_of(lambda: bucket.node("c").open(artifact.sha256)) == "artifact_not_found"
    bucket.node("a").put(files)
    assert bucket.node("c").open(artifact.sha256).manifest == files.manifest


def test_what_was_half_written_is_not_there(
    bucket: Bucket, files: PackageFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that dies between the files leaves no marker; the next one finishes."""
    send = artifacts._send

    def killed(client: object, source: Path, path: str) -> None:
        if source.name == "tokenizer.json":
            raise KeyboardInterrupt
        send(client, source, path)

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "_send", killed)
        with pytest.raises(KeyboardInterrupt):
            bucket.node("a").put(files)
    sha256 = ArtifactStore(bucket.folder / "plain").put(files).sha256
    assert f"{sha256}/{MARKER}" not in bucket.names()
    assert code_of(lambda: bucket.node("b").open(sha256)) == "artifact_not_found"
    bucket.node("a").put(files)
    assert bucket.node("b").open(sha256).onnx.read_bytes() == GRAPH


@pytest.mark.parametrize("change", ["content", "less", "more", "another file"])
def test_what_was_changed_behind_a_digest_is_refused(
    bucket: Bucket, files: PackageFiles, change: str
) -> None:
    """And nothing of it stays in the cache."""
    sha256 = bucket.node("a").put(files).sha256
    place = f"{bucket.path}/{sha256}"
    if change == "another file":
        sizes = {"model.onnx": len(GRAPH)}
        bucket.s3.put(f"{place}/{MARKER}", json.dumps({"sha256": sha256, "files": sizes}).encode())
    else:
        other = {"content": GRAPH[:-1] + b"?", "less": GRAPH[:-1], "more": b"?" + GRAPH}[change]
        bucket.s3.put(f"{place}/model.onnx", other)
    node = bucket.node("b")
    assert code_of(lambda: node.open(sha256)) == "artifact_not_found"
    assert list(node.root.iterdir()) == []


@pytest.mark.parametrize(
    "marker",
    [
        b"", b"{", b"[]", b"{}", b'{"files": []}', b'{"files": {"../../model.onnx": 1}}',
        b'{"files": {"model.onnx": -1}}', b'{"files": {"model.onnx": "1"}}', b'{"files": {"/etc/passwd": 1}}',
    ],
)  # fmt: skip
def test_a_marker_that_is_none_is_no_artifact(bucket: Bucket, marker: bytes) -> None:
    """Its names become paths: only ours do."""
    bucket.s3.put(f"{bucket.path}/{'0' * 64}/{MARKER}", marker)
    node = bucket.node("a")
    assert code_of(lambda: node.open("0" * 64)) == "artifact_not_found"
    assert list(node.root.iterdir()) == []


def test_a_store_that_does_not_answer_is_unavailable(bucket: Bucket, files: PackageFiles) -> None:
    """Whoever asked tries again later. What the node has, it still opens."""
    artifact = bucket.node("a").put(files)
    bucket.origin._storage = S3Settings(endpoint="http://127.0.0.1:1", region="us-east-1")
    assert code_of(lambda: bucket.node("b").open(artifact.sha256)) == "unavailable"
    assert code_of(lambda: bucket.node("b").put(files)) == "unavailable"
    assert bucket.node("a").open(artifact.sha256).onnx.read_bytes() == GRAPH


class Counted:
    """An origin whose downloads are counted."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.downloads = 0

    def upload(self, sha256: str, folder: Path) -> None:
        self._origin.upload(sha256, folder)

    def download(self, sha256: str, folder: Path) -> None:
        self.downloads += 1
        self._origin.download(sha256, folder)


def test_many_readers_of_one_node_bring_an_artifact_once(bucket: Bucket, files: PackageFiles) -> None:
    """The replicas of a deployment start together: one fetches, the others wait for that."""
    sha256 = bucket.node("a").put(files).sha256
    counted = Counted(bucket.origin)
    stores = [ArtifactStore(bucket.folder / "b", counted, 1 << 30) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda store: store.open(sha256).onnx.read_bytes(), stores))
    assert (opened, counted.downloads) == ([GRAPH] * 8, 1)
    assert [path.name for path in stores[0].root.iterdir()] == [sha256]


def test_processes_share_a_cache(bucket: Bucket, files: PackageFiles) -> None:
    """As settings open it; the bucket and the credentials come from configuration and environment."""
    sha256 = bucket.node("a").put(files).sha256
    home = bucket.folder / "home"
    config = bucket.folder / "platform.yaml"
    config.write_text(json.dumps({"artifacts": {"url": f"s3://{bucket.path}/", "s3": bucket.s3.settings}}))
    environ = {
        **os.environ,
        "FYRE_HOME": str(home),
        "FYRE_CONFIG": str(config),
        "FYRE_REDIS_URL": "unix:///x",
    }
    script = (
        "import sys; from fyretoolkit.settings import settings; "
        "from fyretoolkit.objects.artifacts import open_artifacts; "
        "print(open_artifacts(settings()).open(sys.argv[1]).onnx)"
    )
    home.mkdir()
    command = [sys.executable, "-c", script, sha256]
    running = [
        subprocess.Popen(command, env=environ, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    paths = {process.communicate(timeout=240)[0].strip() for process in running}
    assert paths == {str(home / "artifact-cache" / sha256 / "model.onnx")}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert [path.name for path in (home / "artifact-cache").iterdir()] == [sha256]


def test_the_cache_keeps_what_fits_and_what_is_in_use(bucket: Bucket, tmp_path: Path) -> None:
    """The least recently opened goes first; nothing that was opened within the hour; it comes back when asked for."""
    packages = [write_package(tmp_path / str(n), GRAPH, f"id: m{n}\n") for n in range(5)]
    sizes = len(GRAPH) + len("id: m0\n")
    node = bucket.node("a", cache_bytes=2 * sizes)
    digests = [node.put(files).sha256 for files in packages[:4]]
    assert {path.name for path in node.root.iterdir()} == set(digests), "all are in use"
    for age, digest in enumerate(digests):
        opened_at = time.time() - IN_USE_S - 100 + age
        os.utime(node.root / digest, (opened_at, opened_at))
    node.open(digests[0])
    last = node.put(packages[4]).sha256
    assert {path.name for path in node.root.iterdir()} == {digests[0], last}
    assert node.open(digests[2]).onnx.read_bytes() == GRAPH
    assert {path.name for path in node.root.iterdir()} == {digests[0], digests[2], last}


def test_the_default_is_a_folder_and_another_may_be_named(tmp_path: Path) -> None:
    """Neither has a cache, an origin, or anything to remove. A bucket's cache is not where a folder's artifacts lay."""
    values = {"home": tmp_path / "home", "redis_url": "unix:///nowhere"}
    assert open_artifacts(Settings.model_validate(values)).root == tmp_path / "home" / "artifacts"
    shared = {**values, "artifacts": {"url": f"file://{tmp_path}/shared"}}
    store = open_artifacts(Settings.model_validate(shared))
    assert store.root == tmp_path / "shared"
    assert store._origin is None
    remote = {**values, "artifacts": {"url": "s3://bucket/prefix/"}}
    assert open_artifacts(Settings.model_validate(remote)).root == tmp_path / "home" / "artifact-cache"
