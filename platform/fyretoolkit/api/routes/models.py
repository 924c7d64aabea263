"""`/models`: the organization's own models and the public ones.

Nothing here fetches: the controller does, and the model's status says when it is done. A registration that failed keeps
its id, in training and with its error, so that publishing other content under it is all that is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from fyretoolkit.api.dependencies import Parts, Reader, Writer, json_body
from fyretoolkit.api.idempotency import claim_of, created, find_replay, replayed
from fyretoolkit.api.openapi import creation_headers, failures, replay_header, request_body
from fyretoolkit.api.pages import fill_page, invalid_cursor
from fyretoolkit.api.services import Services
from fyretoolkit.api.sources import content_source
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug, new_id
from fyretoolkit.core.lifecycles import ModelStatus
from fyretoolkit.core.models import ORDER_PREFIX, Model
from fyretoolkit.core.organizations import PUBLIC_ORG, Principal, Scope
from fyretoolkit.schemas.errors import invalid_field
from fyretoolkit.schemas.models import ModelCreate, ModelPublish, ModelQuery, ModelResource
from fyretoolkit.schemas.pages import Page
from fyretoolkit.schemas.wire import EmptyRequest
from fyretoolkit.store.creation import CreationOutcome

COLLECTION = "/models"

router = APIRouter(tags=["Models"])


@router.post(
    COLLECTION,
    status_code=201,
    summary="Register a model",
    response_model=ModelResource,
    responses={
        **creation_headers(201),
        **failures(
            "file_not_found", "idempotency_key_reused", "model_conflict", "quota_exceeded", "url_not_allowed"
        ),
    },
    openapi_extra=request_body(ModelCreate),
)
async def register_model(
    request: Request,
    principal: Writer,
    services: Parts,
    body: Annotated[ModelCreate, Depends(json_body(ModelCreate))],
) -> Response:
    """Answers at once with status `training`; with `model_uri` it is `ready` once its content passed inspection.

    If that fails, `error` says why, and other content can be published.
    """
    claim = claim_of(request, principal, body)
    if (answer := await find_replay(services.store, claim)) is not None:
        return replayed(answer, status=201, collection=COLLECTION)
    model = await _new_model(services, principal.org, body)
    answer = ModelResource.from_record(model, []).to_json()
    creation = await services.models.create(
        model,
        idempotency=claim.with_answer(answer) if claim else None,
        limit=services.settings.quotas.models,
    )
    if creation.outcome is CreationOutcome.EXISTS:
        raise _conflict(model.id)
    return created(creation, answer, status=201, collection=COLLECTION)


@router.get(COLLECTION, summary="List models")
async def list_models(
    principal: Reader, services: Parts, query: Annotated[ModelQuery, Query()]
) -> Page[ModelResource]:
    """Newest first: the organization's own models and the public ones."""
    start = await _cursor(services, principal.org, query.starting_after)

    async def fetch(limit: int, after: Model | None) -> Sequence[Model]:
        return await services.models.page(principal.org, limit, after=after or start, status=query.status)

    # Each status has a list of its own; one that changes while its page is read is passed over.
    models, has_more = await fill_page(
        fetch, query.limit, keep=lambda model: query.status in (None, model.status)
    )
    await services.routes.refresh_if_changed()
    data = [resource_of(services, principal, model) for model in models]
    return Page[ModelResource](data=data, has_more=has_more)


@router.get(COLLECTION + "/{model_id}", summary="Get a model", responses=failures("model_not_found"))
async def get_model(model_id: str, principal: Reader, services: Parts) -> ModelResource:
    """The model with its signature and the deployments that serve it."""
    return await _answer(services, principal, model_id)


@router.post(
    COLLECTION + "/{model_id}/publish",
    summary="Publish the content of a model in training",
    response_model=ModelResource,
    responses={
        **replay_header(200),
        **failures(
            "model_not_found",
            "file_not_found",
            "idempotency_key_reused",
            "model_not_publishable",
            "url_not_allowed",
        ),
    },
    openapi_extra=request_body(ModelPublish),
)
async def publish_model(
    model_id: str,
    request: Request,
    principal: Writer,
    services: Parts,
    body: Annotated[ModelPublish, Depends(json_body(ModelPublish))],
) -> Response:
    """The model is `ready` once the content at `model_uri` passed inspection.

    Of several publications before that, the last one counts.
    """
    claim = claim_of(request, principal, body)
    model = await _own_model(services, principal, model_id)
    # Looked for after the model was read: what made it ready since then has left its answer.
    if (first := await find_replay(services.store, claim)) is not None:
        return replayed(first, status=200)
    if model.status is not ModelStatus.TRAINING:
        raise _not_publishable(model.id, model.status)
    source = await content_source(services, principal.org, body.model_uri, model.id)
    published = replace(model, source_uri=source.uri, source_sha256=body.sha256, error=None)
    answer = resource_of(services, principal, published).to_json()
    publication = await services.models.publish(
        model, source.uri, body.sha256, idempotency=claim.with_answer(answer) if claim else None
    )
    if publication.outcome is CreationOutcome.REFUSED:
        raise _not_publishable(model.id, publication.answer)
    return created(publication, answer, status=200)


@router.post(
    COLLECTION + "/{model_id}/archive",
    summary="Archive a model",
    responses=failures("model_not_found", "model_in_use"),
    openapi_extra=request_body(EmptyRequest, is_optional=True),
)
async def archive_model(
    model_id: str,
    principal: Writer,
    services: Parts,
    _: Annotated[EmptyRequest, Depends(json_body(EmptyRequest, is_optional=True))],
) -> ModelResource:
    """It cannot be deployed any more; its record and content stay. Repeatable."""
    model = await _own_model(services, principal, model_id)
    if in_use_by := await services.models.archive(model):
        raise PlatformError(
            "model_in_use",
            f"Model {model.id} has live deployments: {', '.join(in_use_by[:5])}. Delete them first.",
            details={"deployments": in_use_by},
        )
    return await _answer(services, principal, model_id)


async def known_model(services: Services, org: str, model_id: str) -> Model:
    """The model that the organization sees under this id.

    Raises:
        PlatformError: `model_not_found`.
    """
    model = await services.models.get(org, model_id) if is_slug(model_id) else None
    if model is None:
        raise PlatformError("model_not_found")
    return model


def resource_of(services: Services, principal: Principal, model: Model) -> ModelResource:
    """The model as this caller sees it."""
    deployments = services.routes.serving(principal.org, model.id)
    return ModelResource.from_record(model, [deployment.id for deployment in deployments])


async def _new_model(services: Services, org: str, body: ModelCreate) -> Model:
    uri, name = body.model_uri, body.id
    if uri is not None:
        source = await content_source(services, org, uri, name, id_field="id")
        uri, name = source.uri, source.model_id
    if name is None:
        raise invalid_field("id", "A model in training needs an id. Add it.")
    if await services.models.get(PUBLIC_ORG, name) is not None:
        raise _conflict(name)
    now = time.time()
    return Model(
        id=name,
        org=org,
        status=ModelStatus.TRAINING,
        created=int(now),
        order=new_id(ORDER_PREFIX),
        description=body.description or "",
        source_uri=uri,
        source_sha256=body.sha256,
        publication=0 if uri is None else 1,
        published_at=now,
    )


async def _own_model(services: Services, principal: Principal, model_id: str) -> Model:
    """The organization's own model; says more than "no such model" of a public one, to a key that may read it.

    Raises:
        PlatformError: `model_not_found`.
    """
    model = await known_model(services, principal.org, model_id)
    if model.org != PUBLIC_ORG:
        return model
    if Scope.READ not in principal.scopes:
        raise PlatformError("model_not_found")
    raise PlatformError(
        "model_not_found",
        f"Model {model.id} is public: everybody may use it and nobody can change it. "
        "Register your own under another id with POST /models.",
    )


async def _answer(services: Services, principal: Principal, model_id: str) -> ModelResource:
    model = await known_model(services, principal.org, model_id)
    await services.routes.refresh_if_changed()
    return resource_of(services, principal, model)


def _not_publishable(model_id: str, status: str | None) -> PlatformError:
    return PlatformError(
        "model_not_publishable",
        f"Model {model_id} is {status}, not training. Register other content under another id with POST /models.",
        details={"status": status},
    )


def _conflict(model_id: str) -> PlatformError:
    return PlatformError(
        "model_conflict",
        f"The model id {model_id} is in use. Choose another id, or publish to it if it is in training.",
    )


async def _cursor(services: Services, org: str, starting_after: str | None) -> Model | None:
    """The model to start after. Ids of models are slugs, which do not sort by time; but models are never deleted."""
    if starting_after is None:
        return None
    model = await services.models.get(org, starting_after) if is_slug(starting_after) else None
    if model is None:
        raise invalid_cursor("Pass the id of a model of this list, as its page gave it.")
    return model
