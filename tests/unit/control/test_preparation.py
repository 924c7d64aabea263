"""From a URI to a registered model, on real files, a real Redis and the inspecting child."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, Stage
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.models import ModelStore
from tests.support.onnx_graphs import echo, lookup

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
async def models(redis_url: str) -> AsyncIterator[ModelStore]:
    """An empty registry."""
    store = Store(redis_url)
    yield ModelStore(store)
    await store.close()


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


async def test_a_file_becomes_a_model(settings: Settings, models: ModelStore, tmp_path: Path) -> None:
    """Fetched, inspected, stored by content, registered; nothing unfinished is left. Twice is once."""
    uri = written(tmp_path, "a.onnx", lookup())
    preparer = Preparer(settings, models)
    first = await preparer.prepare(wanted(uri))
    assert await preparer.prepare(wanted(uri)) == first
    model = await models.get("org_a", "m")
    assert model is not None
    assert (model.artifact, model.source_uri) == (first.artifact, uri)
    assert [path.name for path in settings.artifacts_dir.iterdir()] == [first.artifact]


async def test_an_id_in_use_by_other_content_is_a_conflict(
    settings: Settings, models: ModelStore, tmp_path: Path
) -> None:
    """The organization's own id, or one of a public model: neither is taken over."""
    preparer = Preparer(settings, models)
    await preparer.prepare(wanted(written(tmp_path, "a.onnx", lookup()), org=PUBLIC_ORG))
    await preparer.prepare(wanted(written(tmp_path, "a.onnx", lookup()), model="own"))
    other = written(tmp_path, "b.onnx", echo("float32", ["N", 2]))
    for model in ("m", "own"):
        with pytest.raises(PlatformError) as refused:
            await preparer.prepare(wanted(other, model=model))
        assert refused.value.code == "model_conflict"


async def test_a_folder_names_its_model_itself(
    settings: Settings, models: ModelStore, tmp_path: Path
) -> None:
    """The manifest's id counts where the caller chose none."""
    package = tmp_path / "files" / "package"
    package.mkdir()
    (package / "model.onnx").write_bytes(lookup())
    (package / "model.yaml").write_text("id: by-manifest\n", "utf-8")
    prepared = await Preparer(settings, models).prepare(wanted(package.as_uri(), is_chosen=False))
    assert prepared.model == "by-manifest"


async def test_what_a_killed_process_left_is_removed(settings: Settings, models: ModelStore) -> None:
    """Old and unfinished: removed. Being fetched now, or an artifact: left alone."""
    names = (".fetch-old", ".fetch-new", "0" * 64)
    for name in names:
        (settings.artifacts_dir / name / "unpacked").mkdir(parents=True)
    for name in (".fetch-old", "0" * 64):
        os.utime(settings.artifacts_dir / name, (time.time() - 4000,) * 2)
    Preparer(settings, models).remove_unfinished()
    assert {path.name for path in settings.artifacts_dir.iterdir()} == {".fetch-new", "0" * 64}
