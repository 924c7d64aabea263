# Generated from ../asynchronous/models.py by scripts/describe: change that one.
"""`client.models`."""

from __future__ import annotations

from os import PathLike
from typing import Literal

from fyretoolkit.client.calls import create, get, path_of, post
from fyretoolkit.client.synchronous.files import Files
from fyretoolkit.client.synchronous.pages import Page, page_of
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.schemas.models import ModelResource


class Models:
    """Models: what can be deployed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model_uri: str | PathLike[str] | None = None,
        *,
        id: str | None = None,  # noqa: A002 - as the API names it
        sha256: str | None = None,
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelResource:
        """Registers a model, `ready` once its content passed inspection; without `model_uri` it waits for `publish`.

        `model_uri`: where an ONNX file or package lies, or the path of a local one, which is uploaded.
        """
        uri = None if model_uri is None else Files(self._transport).uri_of(model_uri, idempotency_key)
        call = create(
            "/models",
            idempotency_key,
            id=id,
            model_uri=uri,
            sha256=sha256,
            status="training" if uri is None else None,
            description=description,
        )
        return self._transport.fetch(call, ModelResource)

    def list(
        self,
        *,
        status: Literal["training", "ready", "archived"] | None = None,
        limit: int | None = None,
        starting_after: str | None = None,
    ) -> Page[ModelResource]:
        """The organization's own models and the public ones, newest first. `limit`: of one page."""
        query: dict[str, object] = {"status": status, "limit": limit, "starting_after": starting_after}
        return page_of(self._transport, ModelResource, "/models", query)

    def get(self, model_id: str) -> ModelResource:
        """The model with its signature and the deployments that serve it."""
        return self._transport.fetch(get(path_of("models", model_id)), ModelResource)

    def publish(
        self,
        model_id: str,
        model_uri: str | PathLike[str],
        *,
        sha256: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelResource:
        """Gives a model in training its content, which may be a local file."""
        uri = Files(self._transport).uri_of(model_uri, idempotency_key)
        path = path_of("models", model_id, "publish")
        return self._transport.fetch(
            create(path, idempotency_key, model_uri=uri, sha256=sha256), ModelResource
        )

    def archive(self, model_id: str) -> ModelResource:
        """It cannot be deployed any more; its record and content stay."""
        call = post(path_of("models", model_id, "archive"), is_repeatable=True)
        return self._transport.fetch(call, ModelResource)
