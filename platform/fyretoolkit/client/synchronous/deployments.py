# Generated from ../asynchronous/deployments.py by scripts/describe: change that one.
"""`client.deployments`, and a deployment that can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

from pydantic import PrivateAttr

from fyretoolkit.client.calls import create, delete, get, left_in, path_of, post, send_json
from fyretoolkit.client.errors import DeploymentFailedError, FyreError
from fyretoolkit.client.progress import ShowEvent, event_printer
from fyretoolkit.client.retries import Polling
from fyretoolkit.client.seams import sleep
from fyretoolkit.client.synchronous.files import Files
from fyretoolkit.client.synchronous.metrics import Metrics, Period
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.client.unset import UNSET, Unset
from fyretoolkit.core.lifecycles import DeploymentStatus
from fyretoolkit.schemas.deployments import DeletedDeployment, DeploymentResource, Event
from fyretoolkit.schemas.metrics import MetricsResource

_ENDED = (DeploymentStatus.FAILED, DeploymentStatus.DRAINING, DeploymentStatus.DELETED)


class Deployment(DeploymentResource):
    """A deployment as it was when it was read; `refresh` reads it again."""

    _transport: Transport = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Keeps what it was read through."""
        self._transport = context

    def refresh(self) -> Deployment:
        """The deployment as it is now."""
        return Deployments(self._transport).get(self.id)

    def wait_until_ready(
        self, *, timeout: float | None = None, progress: bool | ShowEvent = False
    ) -> Deployment:
        """Waits until it takes traffic, and answers the deployment as it is then.

        `timeout`: seconds to wait. `progress`: prints what happens to stderr, or calls a function with each event.

        Raises:
            DeploymentFailedError: it never will. WaitTimeoutError.
        """
        show = event_printer(progress)
        deployment = self
        for deployment in self._looks(timeout):
            for event in deployment.events[show.count :]:
                show(event)
        return deployment

    def follow(self, *, timeout: float | None = None) -> Iterator[Event]:
        """What happens to it, event after event from its creation on, until it is ready.

        Raises:
            DeploymentFailedError: it never will be. WaitTimeoutError.
        """
        shown = 0
        for deployment in self._looks(timeout):
            for event in deployment.events[shown:]:
                yield event
            shown = max(shown, len(deployment.events))

    def scale(self, replicas: int) -> Deployment:
        """Another number of replicas."""
        return Deployments(self._transport).change(self.id, replicas=replicas)

    def promote(self) -> Deployment:
        """Gives it all traffic of its model."""
        return Deployments(self._transport).promote(self.id)

    def rollback(self) -> Deployment:
        """Takes all traffic from it."""
        return Deployments(self._transport).rollback(self.id)

    def delete(self) -> DeletedDeployment:
        """Requests in flight finish, then its replicas are freed."""
        return Deployments(self._transport).delete(self.id)

    def metrics(self, *, period: Period | None = None) -> MetricsResource:
        """What it did, in the last hour unless `period` says otherwise."""
        return Metrics(self._transport).get(self.id, period=period)

    def _looks(self, timeout: float | None) -> Iterator[Deployment]:
        """The deployment again and again until it is ready; one that failed is shown before that is raised."""
        polling = Polling(f"Deployment {self.id}", timeout, self._transport.options)
        deployment = self
        while True:
            yield deployment
            if deployment.status is DeploymentStatus.READY:
                return
            if deployment.status in _ENDED:
                raise _failure(deployment)
            sleep(polling.pause())
            try:
                looking = Deployments(self._transport.with_options(polling.options))
                deployment = looking.get(self.id)
                polling.worked()
            except FyreError as failure:
                pause_s = polling.pause_after(failure)
                sleep(pause_s)


class Deployments:
    """Deployments: models that are being served."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model_uri: str | PathLike[str],
        *,
        region: str,
        replicas: int | None = None,
        autoscaling: tuple[int, int] | None = None,
        model_id: str | None = None,
        sha256: str | None = None,
        traffic: int | None = None,
        num_gpus: float | None = None,
        accelerator_type: str | None = None,
        max_wait_s: int | None = None,
        idempotency_key: str | None = None,
    ) -> Deployment:
        """Answers at once; `wait_until_ready` waits.

        `model_uri`: `models://<id>`, where an ONNX file or package lies, or the path of a local one, which is uploaded.
        `autoscaling`: the fewest and the most replicas.
        """
        call = create(
            "/deployments",
            idempotency_key,
            model_uri=Files(self._transport).uri_of(model_uri, idempotency_key),
            region=region,
            replicas=replicas,
            autoscaling=_bounds(autoscaling),
            model_id=model_id,
            sha256=sha256,
            traffic=traffic,
            num_gpus=num_gpus,
            accelerator_type=accelerator_type,
            max_wait_s=max_wait_s,
        )
        return self._transport.fetch(call, Deployment)

    def list(self, *, limit: int | None = None, starting_after: str | None = None) -> Page[Deployment]:
        """The organization's deployments that were not deleted, newest first. `limit`: of one page."""
        query: dict[str, object] = {"limit": limit, "starting_after": starting_after}
        return page_of(self._transport, Deployment, "/deployments", query)

    def get(self, deployment_id: str) -> Deployment:
        """The deployment with what happened to it so far."""
        return self._transport.fetch(get(path_of("deployments", deployment_id)), Deployment)

    def change(
        self,
        deployment_id: str,
        *,
        replicas: int | None = None,
        autoscaling: tuple[int, int] | Unset | None = UNSET,
        traffic: int | None = None,
    ) -> Deployment:
        """What is left out stays as it is. `autoscaling`: the fewest and the most replicas; None switches it off."""
        body = left_in({"replicas": replicas, "traffic": traffic})
        if not isinstance(autoscaling, Unset):
            body["autoscaling"] = _bounds(autoscaling)
        call = send_json("PATCH", path_of("deployments", deployment_id), body)
        return self._transport.fetch(call, Deployment)

    def promote(self, deployment_id: str) -> Deployment:
        """Gives it all traffic of its model, in one step."""
        call = post(path_of("deployments", deployment_id, "promote"), is_repeatable=True)
        return self._transport.fetch(call, Deployment)

    def rollback(self, deployment_id: str) -> Deployment:
        """Takes all traffic from it, in one step; the model's other deployments have what they had before it."""
        call = post(path_of("deployments", deployment_id, "rollback"), is_repeatable=True)
        return self._transport.fetch(call, Deployment)

    def delete(self, deployment_id: str) -> DeletedDeployment:
        """Out of the routing first; requests in flight finish, then its replicas are freed."""
        return self._transport.fetch(delete(path_of("deployments", deployment_id)), DeletedDeployment)


def _bounds(autoscaling: tuple[int, int] | None) -> dict[str, int] | None:
    if autoscaling is None:
        return None
    return {"min_replicas": autoscaling[0], "max_replicas": autoscaling[1]}


def _failure(deployment: Deployment) -> DeploymentFailedError:
    if deployment.error is not None:
        return DeploymentFailedError(deployment.id, deployment.error.code, deployment.error.message)
    return DeploymentFailedError(deployment.id, str(deployment.status), "The deployment was deleted.")
