"""From a URI to a registered model, on real files, a real Redis and the inspecting child."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.models import inspection, probe_process
from fyretoolkit.models.artifacts import ArtifactStore
from fyretoolkit.models.inspection import Inspector
from fyretoolkit.settings import QuotaSettings, Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore
from tests.support.disks import free_with
from tests.support.onnx_graphs import echo, lookup
from tests.support.uploads import add_upload

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Development mode, files under the test's own folder."""
    egress = {"development_file_roots": [tmp_path / "files"]}
    (tmp_path / "files").mkdir()
    return Settings.model_validate({"home": tmp_path / "home", "redis_url": redis_url, "egress": egress})


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty store."""
    opened = Store(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
def models(store: Store) -> ModelStore:
    """An empty registry."""
    return ModelStore(store)


@pytest.fixture
def preparer(settings: Settings, models: ModelStore, store: Store) -> Preparer:
    """What is tested here."""
    return Preparer(settings, models, FileStore(store))


def wanted(uri: str, *, model: str = "m", org: str = "org_a", is_chosen: bool = True) -> Deployment:
    """A deployment of what is at the URI."""
    return Deployment(
        id=new_id("dep"), org=org, status=DeploymentStatus.PROVISIONING, stage=Stage.FETCHING, model=model,
        model_uri=uri, region="us-east-1", created=1, updated=1, stage_at=1.0, is_model_id_chosen=is_chosen,
    )  # fmt: skip


def written(folder: Path, name: str, graph: bytes) -> str:
    """The URI of a file with this content."""
    path = folder / "files" / name
    path.write_bytes(graph)
    return path.as_uri()


async def test_a_file_becomes_a_model(
    preparer: Preparer, settings: Settings, models: ModelStore, tmp_path: Path
) -> None:
    """Fetched, inspected, stored by content, registered; nothing unfinished is left. Twice is once."""
    uri = written(tmp_path, "a.onnx", lookup())
    first = await preparer.prepare(wanted(uri))
    assert await preparer.prepare(wanted(uri)) == first
    model = await models.get("org_a", "m")
    assert model is not None
    assert (model.artifact, model.source_uri) == (first.artifact, uri)
    assert [path.name for path in settings.artifacts_dir.iterdir()] == [first.artifact]


async def test_an_id_in_use_by_other_content_is_a_conflict(preparer: Preparer, tmp_path: Path) -> None:
    """The organization's own id, or one of a public model: neither is taken over."""
    await preparer.prepare(wanted(written(tmp_path, "a.onnx", lookup()), org=PUBLIC_ORG))
    await preparer.prepare(wanted(written(tmp_path, "a.onnx", lookup()), model="own"))
    other = written(tmp_path, "b.onnx", echo("float32", ["N", 2]))
    for model in ("m", "own"):
        with pytest.raises(PlatformError) as refused:
            await preparer.prepare(wanted(other, model=model))
        assert refused.value.code == "model_conflict"


async def test_a_deployment_registers_no_more_models_than_an_organization_may_have(
    settings: Settings, models: ModelStore, store: Store, tmp_path: Path
) -> None:
    """As POST /models does; those that are there can be deployed again, and others have their own."""
    limited = settings.model_copy(update={"quotas": QuotaSettings(models=1)})
    preparer = Preparer(limited, models, FileStore(store))
    uri = written(tmp_path, "a.onnx", lookup())
    first = await preparer.prepare(wanted(uri))
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(uri, model="n"))
    assert refused.value.code == "quota_exceeded"
    assert await models.get("org_a", "n") is None
    assert await preparer.prepare(wanted(uri)) == first
    assert (await preparer.prepare(wanted(uri, org="org_b"))).model == "m"


@pytest.mark.parametrize("step", ["fetched", "unpacked", "stored"])
async def test_a_model_leaves_the_reserve_of_the_disk(
    preparer: Preparer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Redis writes to it too, and ends when it cannot. Whatever was written of the model is gone again."""
    folder = tmp_path / "files" / "package"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(lookup() + bytes(100_000))
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(folder / "model.onnx", "model.onnx")
    source = {"fetched": folder / "model.onnx", "unpacked": archive, "stored": folder}[step]
    free_with(monkeypatch, settings.files.min_free_bytes + 50_000)
    if step == "stored":
        monkeypatch.setattr(Inspector, "inspect", lambda *_: None)
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(source.as_uri()))
    assert refused.value.code == "storage_full"
    assert list(settings.artifacts_dir.iterdir()) == []


async def test_a_disk_that_is_full_all_the_same_ends_a_preparation(
    preparer: Preparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again and again until its time is over."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArtifactStore, "put", full)
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(written(tmp_path, "a.onnx", lookup())))
    assert refused.value.code == "storage_full"


async def test_a_folder_names_its_model_itself(preparer: Preparer, tmp_path: Path) -> None:
    """The manifest's id counts where the caller chose none."""
    package = tmp_path / "files" / "package"
    package.mkdir()
    (package / "model.onnx").write_bytes(lookup())
    (package / "model.yaml").write_text("id: by-manifest\n", "utf-8")
    prepared = await preparer.prepare(wanted(package.as_uri(), is_chosen=False))
    assert prepared.model == "by-manifest"


async def test_what_a_killed_process_left_is_removed(preparer: Preparer, settings: Settings) -> None:
    """Old and unfinished: removed. Being fetched now, or an artifact: left alone."""
    names = (".fetch-old", ".fetch-new", "0" * 64)
    for name in names:
        (settings.artifacts_dir / name / "unpacked").mkdir(parents=True)
    for name in (".fetch-old", "0" * 64):
        os.utime(settings.artifacts_dir / name, (time.time() - 4000,) * 2)
    preparer.remove_unfinished()
    assert {path.name for path in settings.artifacts_dir.iterdir()} == {".fetch-new", "0" * 64}


@pytest.mark.parametrize("mode", ["development", "production"])
async def test_an_upload_becomes_a_model(
    settings: Settings, models: ModelStore, store: Store, mode: str
) -> None:
    """Only for the organization that uploaded it; the upload itself is left alone, nothing unfinished is left."""
    settings = settings.model_copy(update={"mode": mode})
    preparer = Preparer(settings, models, FileStore(store))
    file = await add_upload(store, settings.files_dir, lookup(), filename="unpacked")
    uri = f"fyre://files/{file.id}"
    prepared = await preparer.prepare(wanted(uri))
    model = await models.get("org_a", "m")
    assert model is not None
    assert (model.artifact, model.source_uri) == (prepared.artifact, uri)
    assert (settings.files_dir / file.id).read_bytes() == lookup()
    assert [path.name for path in settings.artifacts_dir.iterdir()] == [prepared.artifact]
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(uri, org="org_b"))
    assert refused.value.code == "artifact_not_found"


async def test_an_upload_that_is_gone_is_an_artifact_that_is_not_found(
    preparer: Preparer, settings: Settings, store: Store
) -> None:
    """Deleted between the POST and the fetch."""
    file = await add_upload(store, settings.files_dir, lookup(), filename="m.onnx")
    await FileStore(store).delete("org_a", file.id)
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(f"fyre://files/{file.id}"))
    assert refused.value.code == "artifact_not_found"
    assert "Upload it again" in refused.value.message


async def test_an_upload_is_named_in_what_is_said_of_it(
    preparer: Preparer, settings: Settings, store: Store
) -> None:
    """By the name that its owner gave it."""
    file = await add_upload(store, settings.files_dir, b"no archive", filename="Package.zip")
    with pytest.raises(PlatformError) as refused:
        await preparer.prepare(wanted(f"fyre://files/{file.id}"))
    assert refused.value.code == "invalid_package"
    assert "Package.zip" in refused.value.message


async def test_inspections_leave_the_threads_of_everybody_alone(
    preparer: Preparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an organization at once, each in a thread of its own, however many were asked for."""
    uri = written(tmp_path, "a.onnx", lookup())
    open_ = threading.Event()
    names: list[str] = []

    def inspect(*_: object) -> None:
        names.append(threading.current_thread().name)
        assert open_.wait(60)
        raise PlatformError("invalid_onnx")

    monkeypatch.setattr(inspection.Inspector, "inspect", inspect)
    orgs = ["org_a"] * 20 + ["org_b"]
    loads = [asyncio.create_task(preparer.load(org, uri)) for org in orgs]
    async with asyncio.timeout(60):
        while len(names) < 2:  # noqa: ASYNC110 - in threads
            await asyncio.sleep(0.01)
    for load in loads[5:20]:
        load.cancel()
    open_.set()
    ended = await asyncio.gather(*loads, return_exceptions=True)
    assert [type(each) for each in ended] == [PlatformError] * 5 + [asyncio.CancelledError] * 15 + [
        PlatformError
    ]
    assert len(names) == 6, "what was dropped while it waited was never inspected"
    assert {name.rpartition("_")[0] for name in names} == {"models"}


async def test_a_superseded_inspection_ends_its_child(
    preparer: Preparer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, long before its own bound, and its folder goes when it has ended."""
    begun = threading.Event()
    children: list[subprocess.Popen[bytes]] = []
    watch = inspection.Interrupt.watch

    def noted(interrupt: inspection.Interrupt, child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        watch(interrupt, child)
        begun.set()

    monkeypatch.setattr(inspection.Interrupt, "watch", noted)
    monkeypatch.setattr(probe_process, "_COMMAND", ("-c", "import time; time.sleep(1000)"))
    monkeypatch.setattr(probe_process, "START_TIMEOUT_S", 1000)
    patient = settings.deployments.model_copy(update={"inspect_timeout_s": 1000})
    monkeypatch.setattr(preparer, "_settings", settings.model_copy(update={"deployments": patient}))
    load = asyncio.create_task(preparer.load("org_a", written(tmp_path, "a.onnx", lookup())))
    async with asyncio.timeout(60):
        await asyncio.to_thread(begun.wait, 60)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
    assert [child.returncode for child in children] == [-signal.SIGKILL]
    assert list(settings.artifacts_dir.iterdir()) == []
