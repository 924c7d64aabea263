"""`model_uri`: which model a deployment is of, as far as can be told before anything is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from fyretoolkit.api.services import Services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug, slugify
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.egress.urls import check_url, policy_from
from fyretoolkit.schemas.errors import invalid_field

_REGISTERED = ("models://", "fyre://models/")
_LATER = ("s3://", "gs://", "fyre://")
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".onnx")


@dataclass(frozen=True, slots=True)
class Source:
    """The model of a new deployment. `artifact` and `spec` are there if it is registered already."""

    model_id: str
    uri: str
    is_id_chosen: bool
    artifact: str | None = None
    spec: Mapping[str, object] | None = None


async def resolve_source(services: Services, org: str, uri: str, model_id: str | None) -> Source:
    """The model that `uri` names or will register.

    Raises:
        PlatformError: `url_not_allowed`, `model_not_found`, `model_not_ready`, `model_conflict`, `invalid_request`.
    """
    for prefix in _REGISTERED:
        if uri.startswith(prefix):
            return await _registered(services, org, uri.removeprefix(prefix), model_id)
    if uri.lower().startswith(_LATER):
        scheme = uri.partition("://")[0].lower()
        raise PlatformError(
            "url_not_allowed",
            f"{scheme}:// is not supported yet for this. Use https://, file:// or models://<id>.",
        )
    path = check_url(uri, policy_from(services.settings)).path
    name = model_id or slugify(_stem(path))
    if not name:
        raise invalid_field("model_id", "The URI has no file name to take an id from. Name the model here.")
    existing = await services.models.get(org, name)
    is_final = model_id is not None or path.lower().endswith(
        ".onnx"
    )  # else the package's manifest may name it
    if existing is not None and existing.source_uri != uri and is_final:
        raise PlatformError(
            "model_conflict",
            f"The model id {name} is in use by other content. Choose another model_id, "
            f"or deploy the existing model with models://{name}.",
        )
    return Source(name, uri, is_id_chosen=model_id is not None)


async def _registered(services: Services, org: str, name: str, model_id: str | None) -> Source:
    model = await services.models.get(org, name) if is_slug(name) else None
    if model is None:
        raise PlatformError("model_not_found")
    if model_id not in (None, name):
        raise invalid_field("model_id", f"model_uri names the model {name}. Leave model_id out.")
    require_artifact(model)
    return Source(name, f"models://{name}", is_id_chosen=True, artifact=model.artifact, spec=model.spec)


def require_artifact(model: Model) -> tuple[str, Mapping[str, object]]:
    """(artifact, spec) of a model that can be run.

    Raises:
        PlatformError: `model_not_ready`, with its status.
    """
    if model.status is not ModelStatus.READY or model.artifact is None or model.spec is None:
        raise PlatformError(
            "model_not_ready",
            f"Model {model.id} is {model.status}, not ready. Use a model whose status is ready.",
            details={"status": model.status},
        )
    return model.artifact, model.spec


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    for suffix in _ARCHIVES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
