"""From a model_uri to a registered model: fetch, unpack, inspect in a child process, store by content, register.

Each step may be repeated: the artifact store is content-addressed and registering an id twice with the same content
changes nothing, so a controller that dies in the middle is simply followed by one that prepares again.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import ORDER_PREFIX, Model
from fyretoolkit.egress.fetch import fetch, timeouts_from
from fyretoolkit.egress.local import local_folder
from fyretoolkit.egress.uploads import Uploads
from fyretoolkit.egress.urls import Policy, check_url, policy_from
from fyretoolkit.models.artifacts import Artifact, ArtifactStore
from fyretoolkit.models.inspection import inspect
from fyretoolkit.models.package import PackageFiles, open_package
from fyretoolkit.models.spec import ModelSpec
from fyretoolkit.settings import Settings
from fyretoolkit.store.files import FileStore
from fyretoolkit.store.models import ModelStore

_UNFINISHED_AGE_S = 3600.0
"""No preparation takes as long: what is older was left by a process that was killed."""


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
        self._artifacts = ArtifactStore(settings.artifacts_dir)

    async def prepare(self, deployment: Deployment) -> Prepared:
        """The model of a deployment, fetched, inspected and registered.

        Raises:
            PlatformError: with the code that the deployment fails with.
        """
        if deployment.model_uri.startswith(("models://", "fyre://models/")):
            registered = await self._models.get(deployment.org, deployment.model)
            return _usable(registered, deployment.model)
        return await self._register(deployment, await self.load(deployment.org, deployment.model_uri))

    async def load(self, org: str, uri: str) -> Loaded:
        """What lies at the URI, fetched, inspected and stored.

        Raises:
            PlatformError: with the code that the deployment or registration fails with.
        """
        async with self._fetched(org, uri) as files:
            spec = await asyncio.to_thread(inspect, files, self._settings.deployments.inspect_timeout_s)
            return Loaded(spec, await asyncio.to_thread(self._artifacts.put, files))

    def remove_unfinished(self) -> None:
        """Free what killed processes left of half-fetched artifacts. Blocks on the disk."""
        for folder in self._settings.artifacts_dir.glob(".*"):
            if folder.stat().st_mtime < time.time() - _UNFINISHED_AGE_S:
                shutil.rmtree(folder)

    @asynccontextmanager
    async def _fetched(self, org: str, uri: str) -> AsyncIterator[PackageFiles]:
        policy = policy_from(self._settings)
        self._settings.artifacts_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._settings.artifacts_dir) as folder:
            source = local_folder(check_url(uri, policy), policy)
            if source is None:
                source = await self._fetch(org, uri, policy, Path(folder))
            workdir = Path(folder) / "unpacked"
            workdir.mkdir()
            yield await asyncio.to_thread(
                open_package, source, workdir, self._settings.limits.max_artifact_bytes
            )

    async def _fetch(self, org: str, uri: str, policy: Policy, folder: Path) -> Path:
        """The file at the URI, in a folder of its own, under its own name: messages about it repeat that."""
        fetched = await fetch(
            uri,
            folder / "fetched",
            policy=policy,
            max_bytes=self._settings.limits.max_artifact_bytes,
            timeouts=replace(
                timeouts_from(self._settings.egress), total_s=self._settings.deployments.fetch_timeout_s
            ),
            uploads=Uploads(org, self._files, self._settings.files_dir),
            not_found_code="artifact_not_found",
            unreachable_code="artifact_unreachable",
            too_large_code="artifact_too_large",
        )
        named = folder / "named"
        named.mkdir()
        return fetched.path.rename(named / fetched.name)

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
            )
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
