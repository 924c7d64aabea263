# Generated from ../asynchronous/deliveries.py by scripts/describe: change that one.
"""`client.deliveries`: what became of the webhooks of a job."""

from __future__ import annotations

from fyretoolkit.client.calls import path_of, post
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.deliveries import DeliveryResource


class Deliveries:
    """Deliveries of webhooks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, job_id: str, *, limit: int | None = None, starting_after: str | None = None
    ) -> Page[DeliveryResource]:
        """Of one job, newest first, each with what was tried. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, DeliveryResource, path_of("jobs", job_id, "deliveries"), query)

    def redeliver(self, job_id: str, delivery_id: str) -> DeliveryResource:
        """Sent again, at once and under the same id, by which a receiver knows a repetition."""
        path = path_of("jobs", job_id, "deliveries", delivery_id, "redeliver")
        return self._transport.fetch(post(path, is_repeatable=True), DeliveryResource)
