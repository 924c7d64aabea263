"""The client itself: where it calls, with which key, and a resource for each part of the API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import httpx

from fyretoolkit.client.asynchronous.api_keys import AsyncApiKeys
from fyretoolkit.client.asynchronous.batch import AsyncBatch
from fyretoolkit.client.asynchronous.deliveries import AsyncDeliveries
from fyretoolkit.client.asynchronous.deployments import AsyncDeployments
from fyretoolkit.client.asynchronous.files import AsyncFiles
from fyretoolkit.client.asynchronous.jobs import AsyncJobs
from fyretoolkit.client.asynchronous.metrics import AsyncMetrics
from fyretoolkit.client.asynchronous.models import AsyncModels
from fyretoolkit.client.asynchronous.nodes import AsyncNodes
from fyretoolkit.client.asynchronous.organizations import AsyncOrganizations
from fyretoolkit.client.asynchronous.predictions import AsyncPredictions
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.asynchronous.webhooks import AsyncWebhooks
from fyretoolkit.client.inputs import Inputs
from fyretoolkit.client.options import (
    DEFAULT_ATTEMPT_TIMEOUT_S,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT_S,
    Options,
    account_of,
)
from fyretoolkit.client.predictions import Prediction
from fyretoolkit.client.seams import async_open_http


class AsyncClient:
    """Calls one platform with one key. Made once and used by everybody in a process; close it at the end."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        attempt_timeout: float = DEFAULT_ATTEMPT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Key and URL are those of `FYRE_API_KEY` and `FYRE_BASE_URL` unless they are passed.

        `timeout`: seconds of a call with all its attempts; `attempt_timeout`: of one of them.
        `http_client`: for proxies and certificates of your own, and yours to close.

        Raises:
            ConfigurationError: there is no key, or the URL is none.
        """
        account = account_of(api_key, base_url, os.environ)
        options = Options(timeout, attempt_timeout, max_retries)
        http = async_open_http(account.base_url) if http_client is None else http_client
        self._owned: httpx.AsyncClient | None = http if http_client is None else None
        self._use(AsyncTransport(http, account, options))

    def _use(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self.models: AsyncModels = AsyncModels(transport)
        self.deployments: AsyncDeployments = AsyncDeployments(transport)
        self.predictions: AsyncPredictions = AsyncPredictions(transport)
        self.batch: AsyncBatch = AsyncBatch(transport)
        self.jobs: AsyncJobs = AsyncJobs(transport)
        self.deliveries: AsyncDeliveries = AsyncDeliveries(transport)
        self.files: AsyncFiles = AsyncFiles(transport)
        self.metrics: AsyncMetrics = AsyncMetrics(transport)
        self.api_keys: AsyncApiKeys = AsyncApiKeys(transport)
        self.organizations: AsyncOrganizations = AsyncOrganizations(transport)
        self.nodes: AsyncNodes = AsyncNodes(transport)
        self.webhooks: AsyncWebhooks = AsyncWebhooks(transport)

    async def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        metadata: Mapping[str, Any] | None = None,
        region: str | None = None,
        timeout_ms: int | None = None,
        on_error: Literal["fail", "continue"] | None = None,
    ) -> Prediction:
        """`predictions.create` in short."""
        return await self.predictions.create(
            model, inputs, metadata=metadata, region=region, timeout_ms=timeout_ms, on_error=on_error
        )

    def with_options(
        self,
        *,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> AsyncClient:
        """This client with other limits and the same connections, which stay this one's to close."""
        changed = self._transport.options.changed(
            timeout_s=timeout, attempt_timeout_s=attempt_timeout, max_retries=max_retries
        )
        client = object.__new__(type(self))
        client._owned = None
        client._use(self._transport.with_options(changed))
        return client

    async def close(self) -> None:
        """Closes the connections; no call can be made any more."""
        if self._owned is not None:
            await self._owned.aclose()

    async def __aenter__(self) -> AsyncClient:
        """The client, for as long as the block lasts."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.close()

    def __repr__(self) -> str:
        """Where it calls; of the key only what may be shown."""
        account = self._transport.account
        return f"{type(self).__name__}(base_url={account.base_url!r}, api_key='{account.masked}')"
