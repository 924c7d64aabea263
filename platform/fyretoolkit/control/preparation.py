"""From a model_uri to a registered model: fetch, unpack, inspect in a child process, store by content, register.

Each step may be repeated: the artifact store is content-addressed and registering an id twice with the same content
changes nothing, so a controller that dies in the middle is simply followed by one that prepares again.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fyretoolkit.control.threads import INSPECTIONS_AT_ONCE, MODELS, finish_in
from fyretoolkit.control.turns import Turns
from fyretoolkit.core.checksums import ensure_sha256, refuse_sha256_of_folder
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import ORDER_PREFIX, Model
from fyretoolkit.egress.fetch import fetch, fetch_folder, timeouts_from
from fyretoolkit.egress.local import local_folder
from fyretoolkit.egress.room import require_room, room_translated
from fyretoolkit.egress.transfer import FailureCodes, Fetched, Timeouts
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.egress.urls import ParsedUrl, Policy, check_url, policy_from
from fyretoolkit.models.artifacts import Artifact
from fyretoolkit.models.inspection import Inspector, Interrupt
from fyretoolkit.models.package import MANIFEST, MODEL, TOKENIZER, open_package
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.objects.artifacts import open_artifacts
from fyretoolkit.settings import DeploymentSettings, Settings
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore

_UNFINISHED_AGE_S = 3600.0
"""No preparation takes as long: what is older was left by a process that was killed."""
_AT_ONCE, _AT_ONCE_OF_ONE = 4, 2
"""Preparations, each with what it fetched on the disk; a slow source of an organization blocks no other one."""
_INSPECTED_AT_ONCE_OF_ONE = 1
_SLACK_S = 10.0
_CODES: FailureCodes = {
    "not_found_code": "artifact_not_found",
    "unreachable_code": "artifact_unreachable",
    "too_large_code": "artifact_too_large",
}

OnTurn = Callable[[], Awaitable[None]]


def bound_s(bounds: DeploymentSettings) -> float:
    """How long a preparation may take from its turn on: before its inspection it may wait for all others'."""
    return bounds.fetch_timeout_s + _AT_ONCE * bounds.inspect_timeout_s + _SLACK_S


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Loaded:
    """Content that passed inspection and is in the artifact store."""

    spec: ModelSpec
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that can be served."""

    model: str
    artifact: str
    spec: ModelSpec


class Preparer:
    """Turns what a deployment or a registration asks for into a model that a replica can load."""

    def __init__(self, settings: Settings, models: ModelStore, files: FileStore) -> None:
        self._settings = settings
        self._models = models
        self._files = files
        self._artifacts = open_artifacts(settings)
        self._turns = Turns(_AT_ONCE, of_one=_AT_ONCE_OF_ONE)
        self._inspections = Turns(INSPECTIONS_AT_ONCE, of_one=_INSPECTED_AT_ONCE_OF_ONE)
        self._inspector = Inspector()

    @property
    def inspections(self) -> int:
        """How many are under way."""
        return self._inspections.taken

    async def prepare(self, deployment: Deployment, on_turn: OnTurn = _nothing) -> Prepared:
        """The model of a deployment, fetched, inspected and registered. `on_turn`: as in `load`.

        Raises:
            PlatformError: with the code that the deployment fails with.
        """
        if deployment.model_uri.startswith(("models://", "fyre://models/")):
            name = deployment.version or deployment.model
            usable = _usable(await self._models.get(deployment.org, name), name)
            return replace(usable, model=deployment.model)
        return await self._register(
            deployment,
            await self.load(deployment.org, deployment.model_uri, on_turn, sha256=deployment.sha256),
        )

    async def load(
        self, org: str, uri: str, on_turn: OnTurn = _nothing, *, sha256: str | None = None
    ) -> Loaded:
        """What lies at the URI, fetched, inspected and stored, if it has the digest that its caller said.

        Organizations take turns. `on_turn` is awaited when the turn has come; what it raises ends the preparation.
        Of the disk as much is left as uploads leave.

        Raises:
            PlatformError: with the code that the deployment or registration fails with.
        """
        async with self._turns.turn(org):
            await on_turn()
            with room_translated(), self._folder() as folder:
                source = await self._source(org, uri, sha256, folder)
                async with self._inspections.turn(org):
                    return await self._inspect(source, folder)

    def make_ready(self) -> None:
        """Start what the next inspection will run in, so that it need not wait for that."""
        self._inspector.make_ready()

    def remove_unfinished(self) -> None:
        """Free what killed processes left of half-fetched artifacts. Blocks on the disk."""
        for folder in self._settings.artifacts_dir.glob(".*"):
            with suppress(FileNotFoundError):  # its owner was quicker
                if folder.stat().st_mtime < time.time() - _UNFINISHED_AGE_S:
                    remove = shutil.rmtree if folder.is_dir() else Path.unlink
                    remove(folder)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        self._settings.artifacts_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._settings.artifacts_dir) as folder:
            yield Path(folder)

    async def _source(self, org: str, uri: str, sha256: str | None, folder: Path) -> Path:
        policy = policy_from(self._settings)
        url = check_url(uri, policy)
        in_place = local_folder(url, policy)
        if in_place or url.is_object_folder:
            refuse_sha256_of_folder(sha256)
            return in_place or await self._fetch_package(url, policy, folder)
        fetched = await self._fetch(org, uri, policy, folder)
        ensure_sha256(sha256, fetched.sha256, "The file at model_uri")
        named = folder / "named"
        named.mkdir()
        return fetched.path.rename(named / fetched.name)  # messages about it repeat its name

    async def _inspect(self, source: Path, folder: Path) -> Loaded:
        """In a thread of its own, never two at once of an organization; cancelled, it ends before its folder goes."""
        workdir = folder / "unpacked"
        workdir.mkdir()
        interrupt = Interrupt()
        max_bytes = self._settings.limits.max_artifact_bytes
        hold = partial(require_room, folder, reserve_bytes=self._settings.files.min_free_bytes)
        opening = partial(open_package, source, workdir, max_bytes, hold=hold)
        files = await finish_in(MODELS, None, opening)
        timeout_s = self._settings.deployments.inspect_timeout_s
        inspect = partial(self._inspector.inspect, files, timeout_s, interrupt)
        spec = await finish_in(MODELS, interrupt.set, inspect)
        return Loaded(spec, await finish_in(MODELS, None, partial(self._artifacts.put, files, hold=hold)))

    async def _fetch(self, org: str, uri: str, policy: Policy, folder: Path) -> Fetched:
        return await fetch(
            uri,
            folder / "fetched",
            policy=policy,
            max_bytes=self._settings.limits.max_artifact_bytes,
            timeouts=self._timeouts(),
            reserve_bytes=self._settings.files.min_free_bytes,
            uploads=Uploads(org, self._files, self._settings.files_dir),
            **_CODES,
        )

    async def _fetch_package(self, url: ParsedUrl, policy: Policy, folder: Path) -> Path:
        """The files of a package that lie beneath a folder of object storage, under their usual names alone."""
        fetched = folder / "fetched"
        fetched.mkdir()
        require_room(fetched, 0, self._settings.files.min_free_bytes)
        await fetch_folder(
            url,
            fetched,
            (MODEL, MANIFEST, TOKENIZER),
            policy=policy,
            max_bytes=self._settings.limits.max_artifact_bytes,
            timeouts=self._timeouts(),
            **_CODES,
        )
        return fetched

    def _timeouts(self) -> Timeouts:
        total_s = self._settings.deployments.fetch_timeout_s
        return replace(timeouts_from(self._settings.egress), total_s=total_s)

    async def _register(self, deployment: Deployment, loaded: Loaded) -> Prepared:
        spec, artifact = loaded.spec, loaded.artifact
        model_id = deployment.model
        if not deployment.is_model_id_chosen and spec.id:
            model_id = spec.id
        existing = await self._models.get(deployment.org, model_id)
        model = existing or await self._models.register(
            Model(
                id=model_id,
                org=deployment.org,
                status=ModelStatus.READY,
                created=int(time.time()),
                order=new_id(ORDER_PREFIX),
                description=spec.description,
                artifact=artifact.sha256,
                size_bytes=artifact.size_bytes,
                source_uri=deployment.model_uri,
                spec=spec.to_json(),
            ),
            limit=self._settings.quotas.models,
        )
        if model.status is not ModelStatus.READY:
            raise _not_ready(model)
        if model.artifact != artifact.sha256:
            raise PlatformError(
                "model_conflict",
                f"The model id {model_id!r} is in use by other content. Deploy with another model_id.",
            )
        return Prepared(model_id, artifact.sha256, spec)


def _usable(model: Model | None, model_id: str) -> Prepared:
    if model is None:
        raise PlatformError(
            "artifact_not_found", f"There is no model {model_id!r}. List them with GET /models."
        )
    if model.status is not ModelStatus.READY or model.artifact is None or model.spec is None:
        raise _not_ready(model)
    return Prepared(model.id, model.artifact, ModelSpec.from_json(model.spec))


def _not_ready(model: Model) -> PlatformError:
    return PlatformError(
        "model_not_ready", f"The model {model.id!r} is {model.status} and cannot be deployed."
    )
