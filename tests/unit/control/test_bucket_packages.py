"""Models from object storage, as the controller fetches them: objects and folders of a real S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fyretoolkit.control.preparation import Preparer
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore
from tests.support.onnx_graphs import lookup
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
async def preparer(redis_url: str, s3: S3Server, tmp_path: Path) -> AsyncIterator[Preparer]:
    """Of a platform in production mode, with one bucket open."""
    values = {
        "home": tmp_path / "home",
        "redis_url": redis_url,
        "mode": "production",
        "egress": {"s3": {**s3.settings, "roots": ["packages"]}},
        "limits": {"max_artifact_bytes": 100_000},
    }
    store = Store(redis_url)
    yield Preparer(Settings.model_validate(values), ModelStore(store), FileStore(store))
    await store.close()


async def code_of(preparer: Preparer, uri: str) -> str:
    with pytest.raises(PlatformError) as caught:
        await preparer.load("org_a", uri)
    return caught.value.code


async def test_an_object_becomes_a_model(preparer: Preparer, s3: S3Server) -> None:
    """A bare .onnx."""
    s3.put("packages/a/table.onnx", lookup())
    loaded = await preparer.load("org_a", "s3://packages/a/table.onnx")
    assert loaded.artifact.size_bytes == len(lookup())


async def test_a_folder_becomes_a_model(preparer: Preparer, s3: S3Server) -> None:
    """Its package's own files, whatever else lies there; the same artifact as from anywhere else."""
    manifest = b"id: by-manifest\n"
    s3.put("packages/folder/model.onnx", lookup())
    s3.put("packages/folder/model.yaml", manifest)
    s3.put("packages/folder/huge.bin", bytes(200_000))
    loaded = await preparer.load("org_a", "s3://packages/folder/")
    assert (loaded.spec.id, loaded.artifact.size_bytes) == ("by-manifest", len(lookup()) + len(manifest))
    parts = ((b"model.onnx", lookup()), (b"model.yaml", manifest))
    lines = [
        b"%s %d %s\n" % (name, len(part), hashlib.sha256(part).hexdigest().encode()) for name, part in parts
    ]
    assert loaded.artifact.sha256 == hashlib.sha256(b"".join(lines)).hexdigest()


async def test_what_is_no_package_is_said_with_its_code(preparer: Preparer, s3: S3Server) -> None:
    """Nothing there, a manifest alone, a folder without its slash, more than the limit in all."""
    s3.put("packages/bare/model.yaml", b"id: m\n")
    s3.put("packages/large/model.onnx", bytes(60_000))
    s3.put("packages/large/tokenizer.json", bytes(60_000))
    assert await code_of(preparer, "s3://packages/none/") == "artifact_not_found"
    assert await code_of(preparer, "s3://packages/bare/") == "invalid_package"
    assert await code_of(preparer, "s3://packages/bare") == "artifact_not_found"
    assert await code_of(preparer, "s3://packages/large/") == "artifact_too_large"
    assert await code_of(preparer, "s3://others/model.onnx") == "url_not_allowed"
