"""`/organizations`: for whoever runs the platform, with the scope `operator`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from fyretoolkit.api.dependencies import Operator, Parts, json_body
from fyretoolkit.api.openapi import failures, request_body
from fyretoolkit.api.pages import check_cursor, fill_page
from fyretoolkit.api.routes.api_keys import secret_headers, shown_once
from fyretoolkit.api.services import Services
from fyretoolkit.core.api_keys import new_key
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id
from fyretoolkit.core.organizations import (
    DEMO_ORG,
    FIRST_SCOPES,
    PREFIX,
    Organization,
    new_organization,
)
from fyretoolkit.schemas.api_keys import CreatedApiKey
from fyretoolkit.schemas.errors import about_field
from fyretoolkit.schemas.organizations import (
    OrganizationChange,
    OrganizationCreate,
    OrganizationResource,
)
from fyretoolkit.schemas.pages import Page, PageQuery

COLLECTION = "/organizations"

router = APIRouter(tags=["Organizations"])


@router.post(
    COLLECTION,
    status_code=201,
    summary="Create an organization",
    responses={**secret_headers(), **failures("invalid_plan")},
    openapi_extra=request_body(OrganizationCreate),
)
async def create_organization(
    response: Response,
    principal: Operator,
    services: Parts,
    body: Annotated[OrganizationCreate, Depends(json_body(OrganizationCreate))],
) -> OrganizationResource:
    """Answers the organization with its first key, which manages its other keys and is shown in this answer alone."""
    _require_plan(services, body.plan)
    now = int(time.time())
    organization = new_organization(body.name, body.plan, created=now, created_by=principal.org)
    text, key = new_key(organization.id, "first key", FIRST_SCOPES, created=now)
    await services.api_keys.add(key, organization=organization, caller=principal.key_id)
    shown_once(response, f"{COLLECTION}/{organization.id}")
    return OrganizationResource.from_record(organization, CreatedApiKey.from_key(text, key))


@router.get(COLLECTION, summary="List organizations")
async def list_organizations(
    _: Operator, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[OrganizationResource]:
    """Newest first."""
    start = await _cursor(services, query.starting_after)

    async def fetch(limit: int, after: Organization | None) -> Sequence[Organization]:
        return await services.organizations.page(limit, below=after.order if after else start)

    found, has_more = await fill_page(fetch, query.limit)
    return Page[OrganizationResource](
        data=[OrganizationResource.from_record(each) for each in found], has_more=has_more
    )


@router.get(
    COLLECTION + "/{organization_id}",
    summary="Get an organization",
    responses=failures("organization_not_found"),
)
async def get_organization(organization_id: str, _: Operator, services: Parts) -> OrganizationResource:
    """The organization and its plan."""
    return OrganizationResource.from_record(await _known_organization(services, organization_id))


@router.patch(
    COLLECTION + "/{organization_id}",
    summary="Change an organization",
    responses=failures("organization_not_found", "invalid_plan"),
    openapi_extra=request_body(OrganizationChange),
)
async def change_organization(
    organization_id: str,
    _: Operator,
    services: Parts,
    body: Annotated[OrganizationChange, Depends(json_body(OrganizationChange))],
) -> OrganizationResource:
    """A new plan holds for all of the organization's keys within 5 s."""
    organization = await _known_organization(services, organization_id)
    if "plan" in body.model_fields_set:
        _require_plan(services, body.plan)
    changes = body.model_dump(exclude_unset=True)
    await services.organizations.update(organization.id, **changes)
    return OrganizationResource.from_record(await _known_organization(services, organization_id))


def _require_plan(services: Services, plan: str) -> None:
    plans = services.settings.plans
    if plan not in plans:
        unknown = PlatformError(
            "invalid_plan",
            f"There is no plan {plan!r}. Use one of: {', '.join(plans)}.",
            details={"plans": list(plans)},
        )
        raise about_field("plan", unknown)


async def _known_organization(services: Services, organization_id: str) -> Organization:
    is_possible = is_id(organization_id, PREFIX) or organization_id == DEMO_ORG
    organization = await services.organizations.get(organization_id) if is_possible else None
    if organization is None:
        raise PlatformError("organization_not_found")
    return organization


async def _cursor(services: Services, starting_after: str | None) -> str | None:
    """The order to start below: the id itself, but for the demo organization's."""
    demo = await services.organizations.get(DEMO_ORG) if starting_after == DEMO_ORG else None
    if demo is not None:
        return demo.order
    check_cursor(starting_after, PREFIX)
    return starting_after
