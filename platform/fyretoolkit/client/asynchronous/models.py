"""`client.models`."""

from __future__ import annotations

from os import PathLike
from typing import Literal

from fyretoolkit.client.asynchronous.files import AsyncFiles
from fyretoolkit.client.asynchronous.pages import AsyncPage, async_page_of
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import create, get, path_of, post
from fyretoolkit.schemas.models import ModelResource


class AsyncModels:
    """Models: what can be deployed."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
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
        uri = (
            None
            if model_uri is None
            else await AsyncFiles(self._transport).uri_of(model_uri, idempotency_key)
        )
        call = create(
            "/models",
            idempotency_key,
            id=id,
            model_uri=uri,
            sha256=sha256,
            status="training" if uri is None else None,
            description=description,
        )
        return await self._transport.fetch(call, ModelResource)

    async def list(
        self,
        *,
        status: Literal["training", "ready", "archived"] | None = None,
        limit: int | None = None,
        starting_after: str | None = None,
    ) -> AsyncPage[ModelResource]:
        """The organization's own models and the public ones, newest first. `limit`: of one page."""
        query: dict[str, object] = {"status": status, "limit": limit, "starting_after": starting_after}
        return await async_page_of(self._transport, ModelResource, "/models", query)

    async def get(self, model_id: str) -> ModelResource:
        """The model with its signature and the deployments that serve it."""
        return await self._transport.fetch(get(path_of("models", model_id)), ModelResource)

    async def publish(
        self,
        model_id: str,
        model_uri: str | PathLike[str],
        *,
        sha256: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelResource:
        """Gives a model in training its content, which may be a local file."""
        uri = await AsyncFiles(self._transport).uri_of(model_uri, idempotency_key)
        path = path_of("models", model_id, "publish")
        return await self._transport.fetch(
            create(path, idempotency_key, model_uri=uri, sha256=sha256), ModelResource
        )

    async def archive(self, model_id: str) -> ModelResource:
        """It cannot be deployed any more; its record and content stay."""
        call = post(path_of("models", model_id, "archive"), is_repeatable=True)
        return await self._transport.fetch(call, ModelResource)
