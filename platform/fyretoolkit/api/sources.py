"""The addresses that callers give: whether they may be used, and which model a `model_uri` names.

Nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from fyretoolkit.api.services import Services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug, slugify
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.egress.urls import ParsedUrl, Purpose, check_url, policy_from
from fyretoolkit.schemas.errors import about_field, invalid_field
from fyretoolkit.settings import Settings

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


def check_address(settings: Settings, field: str, url: str, purpose: Purpose = Purpose.SOURCE) -> ParsedUrl:
    """The URL in a field of a request, if the platform may use it.

    Raises:
        PlatformError: `url_not_allowed`, naming the field.
    """
    try:
        return check_url(url, policy_from(settings, purpose))
    except PlatformError as error:
        raise about_field(field, error) from error


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
        raise about_field(
            "model_uri",
            PlatformError(
                "url_not_allowed",
                f"{scheme}:// is not supported yet for this. Use https://, file:// or models://<id>.",
            ),
        )
    file_name = _file_name(check_address(services.settings, "model_uri", uri))
    name = model_id or slugify(_stem(file_name))
    if not name:
        raise invalid_field("model_id", "The URI has no file name to take an id from. Name the model here.")
    existing = await services.models.get(org, name)
    # Of anything but a bare model, the package's manifest may name it.
    is_final = model_id is not None or file_name.lower().endswith(".onnx")
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


def _file_name(url: ParsedUrl) -> str:
    name = PurePosixPath(url.path).name
    return name if url.scheme == "file" else unquote(name)  # a file's path is decoded already


def _stem(name: str) -> str:
    for suffix in _ARCHIVES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
