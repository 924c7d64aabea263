"""`/nodes`: the machines below, for keys that look after an organization. Written by the controller, read here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from fyretoolkit.api.dependencies import Admin, Parts
from fyretoolkit.api.pages import fill_page, invalid_cursor
from fyretoolkit.core.nodes import ID, NodeState
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.core.regions import served_and_not
from fyretoolkit.schemas.nodes import NodeResource
from fyretoolkit.schemas.pages import Page, PageQuery

router = APIRouter(tags=["Nodes"])


@router.get("/nodes", summary="List nodes")
async def list_nodes(
    principal: Admin, services: Parts, query: Annotated[PageQuery, Query()]
) -> Page[NodeResource]:
    """What each has, what is free of it, and which of your deployments are there, seen within the last seconds."""
    if query.starting_after is not None and not re.fullmatch(ID, query.starting_after):
        raise invalid_cursor("Pass an id of this list, as its page gave it.")

    async def fetch(limit: int, after: NodeState | None) -> Sequence[NodeState]:
        cursor = after.id if after else query.starting_after
        return await services.nodes.page(limit, starting_after=cursor)

    found, has_more = await fill_page(fetch, query.limit)
    regions = services.settings.regions
    return Page[NodeResource](
        data=[
            NodeResource.from_state(
                node,
                regions=served_and_not(regions, node.labels)[0] if node.is_alive else [],
                orgs=(principal.org, PUBLIC_ORG),
            )
            for node in found
        ],
        has_more=has_more,
    )
