"""`/models`: the organization's own models and the public ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from fyretoolkit.api.dependencies import Parts, Reader
from fyretoolkit.api.openapi import failures
from fyretoolkit.api.pages import fill_page
from fyretoolkit.api.services import Services
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_slug
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import Principal
from fyretoolkit.schemas.models import ModelResource
from fyretoolkit.schemas.pages import Page, PageQuery

router = APIRouter(tags=["Models"])


@router.get("/models", summary="List models", responses=failures(400, 401, 403, 503))
async def list_models(
    principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[ModelResource]:
    """Newest first."""
    start = await _cursor(services, principal.org, query.starting_after)

    async def fetch(limit: int, after: Model | None) -> Sequence[Model]:
        return await services.models.page(principal.org, limit, after=after or start)

    models, has_more = await fill_page(fetch, query.limit)
    await services.routes.refresh_if_changed()
    data = [resource_of(services, principal, model) for model in models]
    return Page[ModelResource](data=data, has_more=has_more)


@router.get("/models/{model_id}", summary="Get a model", responses=failures(401, 403, 404, 503))
async def get_model(model_id: str, principal: Reader, services: Parts) -> ModelResource:
    """The model with its signature and the deployments that serve it."""
    model = await known_model(services, principal.org, model_id)
    await services.routes.refresh_if_changed()
    return resource_of(services, principal, model)


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


async def _cursor(services: Services, org: str, starting_after: str | None) -> Model | None:
    """The model to start after. Ids of models are slugs, which do not sort by time; but models are never deleted."""
    if starting_after is None:
        return None
    model = await services.models.get(org, starting_after) if is_slug(starting_after) else None
    if model is None:
        raise PlatformError("invalid_cursor")
    return model
