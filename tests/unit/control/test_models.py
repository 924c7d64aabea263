"""The models' reconciler over the real Redis; what lies at a source is decided by a double, once read for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fyretoolkit.control import errands
from fyretoolkit.control.models import ModelReconciler
from fyretoolkit.control.preparation import Loaded, Preparer
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.models.artifacts import Artifact
from fyretoolkit.models.signature import Signature, TensorSpec
from fyretoolkit.models.spec import resolve
from fyretoolkit.settings import Settings
from fyretoolkit.store.connection import Store
from fyretoolkit.store.creation import CreationOutcome
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.fencing import FencedError
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore
from tests.support.onnx_graphs import lookup

pytestmark = pytest.mark.anyio

URI = "https://a.example/m.onnx"


@pytest.fixture
def anyio_backend() -> str:
    """The platform runs on asyncio alone."""
    return "asyncio"


class FakePreparer:
    """Finds one small model at every URI, or raises; held back while `is_open` is not set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.seen: list[str] = []
        self.canceled: list[str] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def load(self, org: str, uri: str, on_turn: Any, *, sha256: str | None) -> Loaded:
        await on_turn()
        self.seen.append(uri)
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.canceled.append(uri)
            raise
        if self.error:
            raise self.error
        tensor = TensorSpec("x", "float32", (None, 2))
        return Loaded(resolve(None, Signature((tensor,), (tensor,))), Artifact(uri[-1] * 64, 7))


class Scene:
    """One model in training, its reconciler, a source."""

    def __init__(self, store: Store, settings: Settings, epoch: int) -> None:
        self.store = store
        self.models = ModelStore(store)
        self.settings = settings
        self.epoch = epoch
        self.preparer: Any = FakePreparer()

    def reconciler(self) -> ModelReconciler:
        """A controller's reconciler, as after its start."""
        return ModelReconciler(self.settings, self.models, self.preparer, epoch=self.epoch)

    async def register(self, uri: str = URI, **more: Any) -> Model:
        """A model that was just registered."""
        made = Model(
            "m", "org_a", ModelStatus.TRAINING, 1, "mdl_1", source_uri=uri, publication=1, published_at=1.0, **more
        )  # fmt: skip
        await self.models.create(made)
        return made

    async def found(self) -> Model:
        """The model as it is now."""
        model = await self.models.get("org_a", "m")
        assert model is not None
        return model

    async def until(self, is_reached: Callable[[Model], bool], reconciler: ModelReconciler) -> Model:
        """The model once it is as expected, ticking until then."""
        async with asyncio.timeout(60):
            while True:
                await reconciler.tick()
                await asyncio.sleep(0.01)
                if is_reached(model := await self.found()):
                    return model


@pytest.fixture
async def scene(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """An empty store."""
    monkeypatch.setattr(errands, "_RETRY_S", 0.01)
    store = Store(redis_url)
    egress = {"development_file_roots": [tmp_path]}
    settings = Settings.model_validate({"home": tmp_path / "home", "redis_url": redis_url, "egress": egress})
    yield Scene(store, settings, await DeploymentStore(store, 100).new_controller_epoch())
    await store.close()


async def test_a_file_becomes_ready(scene: Scene, tmp_path: Path) -> None:
    """Fetched, inspected in its child process, stored: what the model shows is what lies there."""
    path = tmp_path / "lookup.onnx"
    path.write_bytes(lookup())
    scene.preparer = Preparer(scene.settings, scene.models, FileStore(scene.store))
    await scene.register(path.as_uri(), description="Tens.")
    model = await scene.until(lambda model: model.status is not ModelStatus.TRAINING, scene.reconciler())
    assert (model.status, model.description, model.size_bytes) == ("ready", "Tens.", path.stat().st_size)
    assert [path.name for path in scene.settings.artifacts_dir.iterdir()] == [model.artifact]
    assert model.spec is not None
    assert await scene.models.preparing() == []


async def test_what_is_no_model_leaves_it_in_training_with_an_error(scene: Scene) -> None:
    """Once: a source that failed is not tried again until it is published again."""
    scene.preparer.error = PlatformError("invalid_onnx", "Cut short.")
    await scene.register()
    reconciler = scene.reconciler()
    model = await scene.until(lambda model: model.error is not None, reconciler)
    assert (model.status, model.error) == ("training", {"code": "invalid_onnx", "message": "Cut short."})
    assert await reconciler.tick() is False
    scene.preparer.error = None
    assert (await scene.models.publish(model, URI)).outcome is CreationOutcome.CREATED
    model = await scene.until(lambda model: model.status is ModelStatus.READY, reconciler)
    assert model.error is None
    assert len(scene.preparer.seen) == 2


async def test_a_store_that_is_away_fails_no_registration(scene: Scene) -> None:
    """Tried again, not given up."""
    scene.preparer.error = PlatformError("unavailable")
    await scene.register()
    reconciler = scene.reconciler()
    await scene.until(lambda _: len(scene.preparer.seen) > 1, reconciler)
    scene.preparer.error = None
    await scene.until(lambda model: model.status is ModelStatus.READY, reconciler)


async def test_a_preparation_that_keeps_failing_ends_within_its_bound(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is tried again; when its time is up, the model says so."""
    scene.preparer.error = OSError(28, "No space left on device")
    await scene.register()
    reconciler = scene.reconciler()
    model = await scene.until(lambda _: len(scene.preparer.seen) > 1, reconciler)
    assert model.error is None
    monkeypatch.setattr(reconciler, "_bound_s", 0)
    model = await scene.until(lambda model: model.error is not None, reconciler)
    assert model.error is not None
    assert model.error["code"] == "load_timeout"


async def test_a_controller_that_dies_is_followed(scene: Scene) -> None:
    """Dead while it fetched, long after the model was asked for: the next one begins again, with the whole time."""
    await scene.register()
    scene.preparer.is_open.clear()
    first = scene.reconciler()
    await scene.until(lambda _: len(scene.preparer.seen) == 1, first)
    scene.epoch = await DeploymentStore(scene.store, 100).new_controller_epoch()
    scene.preparer.is_open.set()
    await scene.until(lambda model: model.status is ModelStatus.READY, scene.reconciler())
    with pytest.raises(FencedError):
        await scene.until(lambda _: False, first)


async def test_a_source_that_was_replaced_is_given_up_at_once(scene: Scene) -> None:
    """The fetch of the first one is canceled, the second one becomes the model."""
    made = await scene.register("https://a.example/1")
    scene.preparer.is_open.clear()
    reconciler = scene.reconciler()
    await scene.until(lambda _: len(scene.preparer.seen) == 1, reconciler)
    assert (await scene.models.publish(made, "https://a.example/2")).outcome is CreationOutcome.CREATED
    await scene.until(lambda _: scene.preparer.canceled == ["https://a.example/1"], reconciler)
    scene.preparer.is_open.set()
    model = await scene.until(lambda model: model.status is ModelStatus.READY, reconciler)
    assert (model.source_uri, model.artifact) == ("https://a.example/2", "2" * 64)


async def test_an_archived_model_is_prepared_no_more(scene: Scene) -> None:
    """Archived in training, while its source was fetched."""
    made = await scene.register()
    scene.preparer.is_open.clear()
    reconciler = scene.reconciler()
    await scene.until(lambda _: len(scene.preparer.seen) == 1, reconciler)
    assert await scene.models.archive(made) == []
    model = await scene.until(lambda _: bool(scene.preparer.canceled), reconciler)
    assert (model.status, model.artifact) == ("archived", None)
    assert await reconciler.tick() is False


async def test_waiting_for_a_turn_takes_no_time_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after its bound, which begins with the turn: while others are prepared, nothing is."""
    await scene.register()
    turn = asyncio.Event()
    load = scene.preparer.load

    async def wait(org: str, uri: str, on_turn: Any, *, sha256: str | None) -> Loaded:
        await turn.wait()
        found: Loaded = await load(org, uri, on_turn, sha256=sha256)
        return found

    monkeypatch.setattr(scene.preparer, "load", wait)
    reconciler = scene.reconciler()
    monkeypatch.setattr(reconciler, "_bound_s", 0.05)
    for _ in range(20):
        await reconciler.tick()
        await asyncio.sleep(0.01)
    assert (await scene.found()).error is None
    monkeypatch.setattr(reconciler, "_bound_s", 1000)
    scene.preparer.is_open.clear()
    turn.set()
    await scene.until(lambda _: scene.preparer.seen == [URI], reconciler)
    monkeypatch.setattr(reconciler, "_bound_s", 0)
    model = await scene.until(lambda model: model.error is not None, reconciler)
    assert model.error is not None
    assert model.error["code"] == "load_timeout"
    await scene.until(lambda _: scene.preparer.canceled == [URI], reconciler)


async def test_what_takes_controllers_down_is_given_up_after_three(scene: Scene) -> None:
    """Each of them began it and died; the fourth does not."""
    await scene.register()
    scene.preparer.is_open.clear()
    for attempts in (1, 2, 3):
        scene.epoch = await DeploymentStore(scene.store, 100).new_controller_epoch()
        await scene.until(lambda _, seen=attempts: len(scene.preparer.seen) == seen, scene.reconciler())  # type: ignore[misc]
    scene.epoch = await DeploymentStore(scene.store, 100).new_controller_epoch()
    model = await scene.until(lambda model: model.error is not None, scene.reconciler())
    assert model.error is not None
    assert model.error["code"] == "load_timeout"
    assert len(scene.preparer.seen) == 3
