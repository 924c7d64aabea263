# Generated from ../asynchronous/organizations.py by scripts/describe: change that one.
"""`client.organizations`."""

from __future__ import annotations

from fyretoolkit.client.calls import get, left_in, path_of, post, send_json
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.organizations import OrganizationResource


class Organizations:
    """Organizations, for whoever runs the platform: a key with the scope operator."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, plan: str | None = None) -> OrganizationResource:
        """A new organization with its first key, which is in this answer alone; not sent again when that got lost."""
        call = post("/organizations", is_repeatable=False, name=name, plan=plan)
        return self._transport.fetch(call, OrganizationResource)

    def list(
        self, *, limit: int | None = None, starting_after: str | None = None
    ) -> Page[OrganizationResource]:
        """Newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, OrganizationResource, "/organizations", query)

    def get(self, organization_id: str) -> OrganizationResource:
        """The organization and its plan."""
        return self._transport.fetch(get(path_of("organizations", organization_id)), OrganizationResource)

    def change(
        self, organization_id: str, *, name: str | None = None, plan: str | None = None
    ) -> OrganizationResource:
        """What is left out stays as it is."""
        body = left_in({"name": name, "plan": plan})
        call = send_json("PATCH", path_of("organizations", organization_id), body)
        return self._transport.fetch(call, OrganizationResource)
