"""`/deployments`: what is to be served. Nothing here waits for a replica; the controller closes the gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from fyretoolkit.api.dependencies import Parts, Reader, Writer, json_body
from fyretoolkit.api.idempotency import claim_of, created, find_replay, replayed
from fyretoolkit.api.openapi import creation_headers, failures, request_body
from fyretoolkit.api.pages import check_cursor, page_by_id
from fyretoolkit.api.services import Services
from fyretoolkit.api.sources import check_artifact, not_ready, resolve_source
from fyretoolkit.core.deployments import PREFIX, Deployment
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.ids import is_id, new_id
from fyretoolkit.core.lifecycles import LIVE_DEPLOYMENT, DeploymentStatus, Stage
from fyretoolkit.core.organizations import PUBLIC_ORG, Principal, Scope
from fyretoolkit.core.traffic import Shift, plan_promotion, plan_rollback
from fyretoolkit.schemas.deployments import (
    DeletedDeployment,
    DeploymentChange,
    DeploymentCreate,
    DeploymentResource,
)
from fyretoolkit.schemas.pages import Page, PageQuery
from fyretoolkit.schemas.wire import EmptyRequest
from fyretoolkit.serving.parsing import unknown_region
from fyretoolkit.store.creation import CreationOutcome

COLLECTION = "/deployments"
_CHANGE_ATTEMPTS = 10
_GONE = (DeploymentStatus.DRAINING, DeploymentStatus.DELETED)

router = APIRouter(tags=["Deployments"])


@router.post(
    COLLECTION,
    status_code=201,
    summary="Create a deployment",
    response_model=DeploymentResource,
    responses={
        **creation_headers(201),
        **failures(
            "model_not_found",
            "file_not_found",
            "idempotency_key_reused",
            "model_not_ready",
            "model_conflict",
            "quota_exceeded",
            "invalid_region",
            "url_not_allowed",
            "checksum_mismatch",
        ),
    },
    openapi_extra=request_body(DeploymentCreate),
)
async def create_deployment(
    request: Request,
    principal: Writer,
    services: Parts,
    body: Annotated[DeploymentCreate, Depends(json_body(DeploymentCreate))],
) -> Response:
    """Answers at once with status `provisioning`; `GET /deployments/{id}` says how far it is."""
    claim = claim_of(request, principal, body)
    if (answer := await find_replay(services.store, claim)) is not None:
        return replayed(answer, status=201, collection=COLLECTION)
    deployment = await _new_deployment(services, principal.org, body)
    answer = DeploymentResource.from_record(deployment).to_json()
    creation = await services.deployments.create(
        deployment,
        idempotency=claim.with_answer(answer) if claim else None,
        limit=services.settings.quotas.deployments,
    )
    if creation.outcome is CreationOutcome.REFUSED:  # archived since it was looked up
        raise not_ready(deployment.model, str(creation.answer))
    return created(creation, answer, status=201, collection=COLLECTION)


@router.get(COLLECTION, summary="List deployments")
async def list_deployments(
    principal: Reader, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[DeploymentResource]:
    """The organization's deployments that were not deleted, newest first."""
    check_cursor(query.starting_after, PREFIX)
    found, has_more = await page_by_id(principal.org, query, services.deployments, keep=_is_listed)
    data = await asyncio.gather(*(_resource_of(services, deployment) for deployment in found))
    return Page[DeploymentResource](data=list(data), has_more=has_more)


@router.get(
    COLLECTION + "/{deployment_id}", summary="Get a deployment", responses=failures("deployment_not_found")
)
async def get_deployment(deployment_id: str, principal: Reader, services: Parts) -> DeploymentResource:
    """The deployment with what happened to it so far. Those of the public models can be read by everyone."""
    for org in (principal.org, PUBLIC_ORG):
        deployment = await _find(services, org, deployment_id)
        if deployment is not None and deployment.status is not DeploymentStatus.DELETED:
            return await _resource_of(services, deployment)
    raise PlatformError("deployment_not_found")


@router.patch(
    COLLECTION + "/{deployment_id}",
    summary="Change a deployment",
    responses=failures("deployment_not_found", "deployment_not_changeable"),
    openapi_extra=request_body(DeploymentChange),
)
async def change_deployment(
    deployment_id: str,
    principal: Writer,
    services: Parts,
    body: Annotated[DeploymentChange, Depends(json_body(DeploymentChange))],
) -> DeploymentResource:
    """Answers at once with what is wanted; replicas come and go after that, and none restarts that stays."""
    for _ in range(_CHANGE_ATTEMPTS):  # decided anew when another change came between look and change
        deployment = await _changeable(services, principal, deployment_id)
        changes = _changes(deployment, body)
        if await services.deployments.change(deployment, changes, message=_described(body)):
            return await _resource_of(services, await _changeable(services, principal, deployment_id))
    raise _contended()


@router.post(
    COLLECTION + "/{deployment_id}/promote",
    summary="Promote a deployment",
    responses=failures("deployment_not_found", "deployment_not_changeable"),
    openapi_extra=request_body(EmptyRequest, is_optional=True),
)
async def promote_deployment(
    deployment_id: str,
    principal: Writer,
    services: Parts,
    _: Annotated[EmptyRequest, Depends(json_body(EmptyRequest, is_optional=True))],
) -> DeploymentResource:
    """Gives it all traffic of its model, in one step; what it took from the others is kept for a rollback."""
    return await _shift(services, principal, deployment_id, plan_promotion, "promoted")


@router.post(
    COLLECTION + "/{deployment_id}/rollback",
    summary="Roll a deployment back",
    responses=failures("deployment_not_found", "deployment_not_changeable"),
    openapi_extra=request_body(EmptyRequest, is_optional=True),
)
async def roll_deployment_back(
    deployment_id: str,
    principal: Writer,
    services: Parts,
    _: Annotated[EmptyRequest, Depends(json_body(EmptyRequest, is_optional=True))],
) -> DeploymentResource:
    """Takes all traffic from it, in one step; the model's other deployments have what they had before it."""
    return await _shift(services, principal, deployment_id, plan_rollback, "rolled back")


@router.delete(
    COLLECTION + "/{deployment_id}",
    summary="Delete a deployment",
    responses=failures("deployment_not_found"),
)
async def delete_deployment(deployment_id: str, principal: Writer, services: Parts) -> DeletedDeployment:
    """Out of the routing table first; requests in flight finish, then its replicas are freed. Repeatable for 24 h."""
    deployment = await _find(services, principal.org, deployment_id)
    if deployment is None:
        raise await _not_found(services, principal, deployment_id, "delete")
    if deployment.status not in _GONE:
        await services.deployments.transition(
            deployment, DeploymentStatus.DRAINING, message="The caller deleted it."
        )
    return DeletedDeployment(id=deployment.id)


async def _shift(
    services: Services,
    principal: Principal,
    deployment_id: str,
    plan: Callable[[Deployment, Sequence[Deployment]], Shift],
    done: str,
) -> DeploymentResource:
    """Decide how the traffic of a deployment's model is to be shared, and have it so."""
    for _ in range(_CHANGE_ATTEMPTS):  # decided anew when another change came between look and change
        deployment = await _changeable(services, principal, deployment_id)
        siblings = await services.deployments.of_model(deployment.org, deployment.model)
        siblings = [each for each in siblings if each.id != deployment.id]
        shift = plan(deployment, siblings)
        message = f"The caller had {deployment.id} {done}."
        if await services.deployments.shift(shift, [deployment, *siblings], message=message):
            return await _resource_of(services, await _changeable(services, principal, deployment_id))
    raise _contended()


def _contended() -> PlatformError:
    return PlatformError(
        "deployment_not_changeable",
        "Other calls change this deployment at the same time. Read it with GET /deployments/{id} and try again.",
    )


def _is_listed(deployment: Deployment) -> bool:
    return deployment.status not in _GONE


async def _new_deployment(services: Services, org: str, body: DeploymentCreate) -> Deployment:
    regions = services.settings.regions
    if body.region not in regions:
        raise unknown_region(body.region, regions, field="region")
    source = await resolve_source(services, org, body.model_uri, body.model_id)
    if source.artifact is not None:
        check_artifact(source, body.sha256)
    now = time.time()
    return Deployment(
        id=new_id(PREFIX),
        org=org,
        status=DeploymentStatus.PROVISIONING,
        stage=Stage.FETCHING,
        model=source.model_id,
        model_uri=source.uri,
        sha256=body.sha256,
        region=body.region,
        created=int(now),
        updated=int(now),
        stage_at=now,
        replicas=body.replicas,
        traffic=body.traffic,
        num_gpus=body.num_gpus,
        accelerator_type=body.accelerator_type,
        version=source.version,
        is_model_id_chosen=source.is_id_chosen,
        max_wait_s=body.max_wait_s,
        is_scale_chosen=bool(body.model_fields_set & {"replicas", "autoscaling"}),
        autoscaling=body.autoscaling.model_dump() if body.autoscaling else None,
        artifact=source.artifact,
        spec=source.spec,
    )


async def _changeable(services: Services, principal: Principal, deployment_id: str) -> Deployment:
    """The organization's own deployment, if what is wanted of it may change.

    Raises:
        PlatformError: `deployment_not_found`, `deployment_not_changeable`.
    """
    deployment = await _find(services, principal.org, deployment_id)
    if deployment is None:
        raise await _not_found(services, principal, deployment_id, "change")
    if deployment.status in _GONE:
        raise PlatformError("deployment_not_found")
    if deployment.status not in LIVE_DEPLOYMENT:
        raise PlatformError(
            "deployment_not_changeable",
            f"This deployment is {deployment.status}. Delete it and create another with POST /deployments.",
        )
    return deployment


def _changes(deployment: Deployment, body: DeploymentChange) -> dict[str, object]:
    """The fields that a change asks for.

    Raises:
        PlatformError: `deployment_not_changeable`, as the deployment is now.
    """
    changes: dict[str, object] = {name: getattr(body, name) for name in body.model_fields_set}
    if body.autoscaling is not None:
        changes["autoscaling"] = bounds = body.autoscaling.model_dump()
        if "replicas" in changes and bounds != deployment.autoscaling:
            changes["target_replicas"] = body.replicas
    if "replicas" in changes and "autoscaling" not in changes and deployment.autoscaling:
        raise PlatformError(
            "deployment_not_changeable",
            "This deployment scales itself. Change the bounds of autoscaling, or send "
            '"autoscaling": null with replicas.',
        )
    if changes.keys() & {"replicas", "autoscaling"}:
        changes["is_scale_chosen"] = True
    return changes


def _described(body: DeploymentChange) -> str:
    """What a change asks for, as its event says it."""
    parts = [
        f"{name} {getattr(body, name)}" for name in ("replicas", "traffic") if name in body.model_fields_set
    ]
    if body.autoscaling is not None:
        bounds = body.autoscaling
        parts.append(f"{bounds.min_replicas} to {bounds.max_replicas} replicas by load")
    elif "autoscaling" in body.model_fields_set:
        parts.append("autoscaling off")
    return f"The caller asked for {', '.join(parts)}."


async def _not_found(
    services: Services, principal: Principal, deployment_id: str, verb: str
) -> PlatformError:
    """Says more than "no such deployment" of a public one alone, and to a key that could read it alone."""
    public = await _find(services, PUBLIC_ORG, deployment_id) if Scope.READ in principal.scopes else None
    if public is None or public.status is DeploymentStatus.DELETED:
        return PlatformError("deployment_not_found")
    return PlatformError(
        "deployment_not_found",
        f"This deployment belongs to a public model, and your organization cannot {verb} it. "
        "List your own deployments with GET /deployments.",
    )


async def _find(services: Services, org: str, deployment_id: str) -> Deployment | None:
    if not is_id(deployment_id, PREFIX):
        return None
    return await services.deployments.get(org, deployment_id)


async def _resource_of(services: Services, deployment: Deployment) -> DeploymentResource:
    events = await services.deployments.events(deployment.org, deployment.id)
    return DeploymentResource.from_record(deployment, events)
