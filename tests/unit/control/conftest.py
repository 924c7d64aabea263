"""A reconciler over an empty store and a Serve without applications."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fyretoolkit.control import deployments, errands
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from tests.support.reconciling import FakeServe, Scene


@pytest.fixture
async def scene(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """An empty store and a Serve without applications."""
    serve = FakeServe()
    monkeypatch.setattr(deployments, "serve_driver", serve)
    monkeypatch.setattr(errands, "_RETRY_S", 0.01)
    monkeypatch.setattr(deployments, "_DRAIN_S", 0.0)
    store = Store(redis_url)
    settings = Settings.model_validate({"home": tmp_path, "redis_url": redis_url, "standby": {"size": 0}})
    yield Scene(store, serve, settings, await DeploymentStore(store, 100).new_controller_epoch())
    await store.close()
