"""The addresses that callers give: whether they may be used, and which model a `model_uri` names.

Nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fyretoolkit.api.services import Services
from fyretoolkit.core.checksums import ensure_sha256
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.files import PREFIX, URI_PREFIX, StoredFile, file_id_of
from fyretoolkit.core.ids import is_id, is_slug, slugify
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.egress.urls import ParsedUrl, Purpose, check_url, policy_from
from fyretoolkit.schemas.errors import about_field, invalid_field
from fyretoolkit.settings import Settings

_REGISTERED = ("models://", "fyre://models/")
_LATER = ("gs://", "fyre://")
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".onnx")


@dataclass(frozen=True, slots=True)
class Source:
    """The model of a new deployment. `artifact` and `spec` are there if it is registered already."""

    model_id: str
    uri: str
    is_id_chosen: bool
    artifact: str | None = None
    spec: Mapping[str, object] | None = None
    is_id_final: bool = True
    """Whether the package's manifest may not name the model any more."""
    version: str | None = None
    """The registered model whose content it is, where that is to answer for another one."""


def check_address(settings: Settings, field: str, url: str, purpose: Purpose = Purpose.SOURCE) -> ParsedUrl:
    """The URL in a field of a request, if the platform may use it.

    Raises:
        PlatformError: `url_not_allowed`, naming the field.
    """
    try:
        return check_url(url, policy_from(settings, purpose))
    except PlatformError as error:
        raise about_field(field, error) from error


async def check_source(services: Services, org: str, field: str, url: str) -> str:
    """The file name of what is to be read at a URL, if the platform may read it; empty if the URL has none.

    Raises:
        PlatformError: `url_not_allowed`, `file_not_found` (an upload that this organization does not have), naming
            the field.
    """
    file_id = file_id_of(url)
    if file_id is None:
        return check_address(services.settings, field, url).file_name
    file = await _upload(services, org, file_id)
    if file is None:
        raise about_field(field, PlatformError("file_not_found"))
    return file.filename


async def resolve_source(services: Services, org: str, uri: str, model_id: str | None) -> Source:
    """The model that `uri` names, or that deploying it will register.

    Raises:
        PlatformError: `url_not_allowed`, `file_not_found`, `model_not_found`, `model_not_ready`, `model_conflict`,
            `invalid_request`.
    """
    if (name := _registered_name(uri)) is not None:
        return await _registered(services, org, name, model_id)
    if "://" not in uri:
        name = uri if is_slug(uri) else "<id>"
        raise _not_allowed(
            f"It has no scheme. Write models://{name} for a registered model, or where the content of a new one lies: "
            f"{_schemes(services.settings)}."
        )
    source = await content_source(services, org, uri, model_id)
    existing = await services.models.get(org, source.model_id) if source.is_id_final else None
    if existing is not None and await _is_other_content(services, org, existing.source_uri, source.uri):
        raise PlatformError(
            "model_conflict",
            f"The model id {existing.id} is in use by other content. Choose another model_id; "
            f"as a new version of {existing.id}, register this with POST /models under another id, then deploy it with "
            f'model_uri "models://<that id>" and model_id "{existing.id}".',
        )
    if existing is not None:
        require_artifact(existing)
    return source


def check_artifact(source: Source, sha256: str | None) -> None:
    """Refuses a registered model whose artifact is not the one that the caller says.

    Raises:
        PlatformError: `checksum_mismatch`, naming the field.
    """
    try:
        ensure_sha256(sha256, source.artifact or "", f"The artifact of the model {source.model_id}")
    except PlatformError as error:
        raise about_field("sha256", error) from error


async def content_source(
    services: Services, org: str, uri: str, model_id: str | None, *, id_field: str = "model_id"
) -> Source:
    """The content behind `uri`, which is no registered model, and the id it suggests if `model_id` is None.

    Raises:
        PlatformError: `url_not_allowed`, `file_not_found`; `invalid_request`, naming `id_field`, when no id can be
            made.
    """
    schemes = _schemes(services.settings)
    if _registered_name(uri) is not None:
        raise _not_allowed(f"This names a registered model. Name where the content lies: {schemes}.")
    if uri.lower().startswith(_LATER) and file_id_of(uri) is None:
        scheme = uri.partition("://")[0].lower()
        raise _not_allowed(f"{scheme}:// is not supported yet for this. Use {schemes}.")
    file_name = await check_source(services, org, "model_uri", uri)
    name = model_id or slugify(_stem(file_name))
    if not name:
        raise invalid_field(id_field, "The URI has no file name to take an id from. Name the model here.")
    # Of anything but a bare model, the package's manifest may name it.
    is_final = model_id is not None or file_name.lower().endswith(".onnx")
    return Source(name, uri, is_id_chosen=model_id is not None, is_id_final=is_final)


def _registered_name(uri: str) -> str | None:
    """What follows `models://`, which may be no id at all; None for a URI of another kind."""
    for prefix in _REGISTERED:
        if uri[: len(prefix)].lower() == prefix:
            return uri[len(prefix) :]
    return None


def _schemes(settings: Settings) -> str:
    """Where content may lie."""
    policy = policy_from(settings)
    is_there = {"https": True, "file": "file" in policy.schemes, "s3": bool(policy.bucket_roots)}
    return f"{', '.join(f'{name}://' for name in is_there if is_there[name])} or {URI_PREFIX}<id>"


def _not_allowed(message: str) -> PlatformError:
    return about_field("model_uri", PlatformError("url_not_allowed", message))


async def _registered(services: Services, org: str, name: str, model_id: str | None) -> Source:
    model = await services.models.get(org, name) if is_slug(name) else None
    if model is None:
        raise PlatformError("model_not_found")
    require_artifact(model)
    version = None
    if model_id is not None and model_id != name:
        await _check_version(services, org, model, model_id)
        version = name
    return Source(
        model_id or name,
        f"models://{name}",
        is_id_chosen=True,
        artifact=model.artifact,
        spec=model.spec,
        version=version,
    )


async def _check_version(services: Services, org: str, model: Model, answers_for: str) -> None:
    """Refuses a model as a new version of another one that is not there, or that takes other inputs."""
    other = await services.models.get(org, answers_for)
    if other is None:
        raise about_field(
            "model_id",
            PlatformError(
                "model_not_found",
                f"With {_REGISTERED[0]} in model_uri, model_id is the model that this is to be a version of, and there "
                f"is no {answers_for}. Leave model_id out, or list the models with GET /models.",
            ),
        )
    if other.org == PUBLIC_ORG and not await _has_own(services, org, answers_for):
        raise invalid_field(
            "model_id",
            f"{answers_for} is a public model, served to everybody. Deploy it for yourself first with model_uri "
            f"{_REGISTERED[0]}{answers_for}; then this can be a new version of that.",
        )
    _, spec = require_artifact(other)
    kinds = spec["kind"], (model.spec or {}).get("kind")
    if kinds[0] != kinds[1]:
        raise invalid_field(
            "model_id",
            f"{model.id} takes {kinds[1]} inputs and {answers_for} {kinds[0]} inputs, so it cannot be a version of it.",
        )


async def _has_own(services: Services, org: str, model_id: str) -> bool:
    """Whether the organization has a live deployment of the model itself."""
    return any(each.version is None for each in await services.deployments.of_model(org, model_id))


def require_artifact(model: Model) -> tuple[str, Mapping[str, object]]:
    """(artifact, spec) of a model that can be run.

    Raises:
        PlatformError: `model_not_ready`, with its status.
    """
    if model.status is not ModelStatus.READY or model.artifact is None or model.spec is None:
        raise not_ready(model.id, model.status)
    return model.artifact, model.spec


def not_ready(model_id: str, status: str) -> PlatformError:
    """The 409 that names the model's status."""
    return PlatformError(
        "model_not_ready",
        f"Model {model_id} is {status}, not ready. Use a model whose status is ready.",
        details={"status": status},
    )


async def _is_other_content(services: Services, org: str, known: str | None, uri: str) -> bool:
    """Whether two URIs certainly name different content. An upload that is gone tells nothing."""
    known_id, file_id = file_id_of(known or ""), file_id_of(uri)
    if known == uri or known_id is None or file_id is None:
        return known != uri
    first, second = await _upload(services, org, known_id), await _upload(services, org, file_id)
    return first is not None and second is not None and first.sha256 != second.sha256


async def _upload(services: Services, org: str, file_id: str) -> StoredFile | None:
    return await services.files.get(org, file_id) if is_id(file_id, PREFIX) else None


def _stem(name: str) -> str:
    for suffix in _ARCHIVES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
