# Generated from ../asynchronous/client.py by scripts/describe: change that one.
"""The client itself: where it calls, with which key, and a resource for each part of the API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import httpx

from fyretoolkit.client.inputs import Inputs
from fyretoolkit.client.options import (
    DEFAULT_ATTEMPT_TIMEOUT_S,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT_S,
    Options,
    account_of,
)
from fyretoolkit.client.predictions import Prediction
from fyretoolkit.client.seams import open_http
from fyretoolkit.client.synchronous.api_keys import ApiKeys
from fyretoolkit.client.synchronous.batch import Batch
from fyretoolkit.client.synchronous.deliveries import Deliveries
from fyretoolkit.client.synchronous.deployments import Deployments
from fyretoolkit.client.synchronous.files import Files
from fyretoolkit.client.synchronous.jobs import Jobs
from fyretoolkit.client.synchronous.metrics import Metrics
from fyretoolkit.client.synchronous.models import Models
from fyretoolkit.client.synchronous.nodes import Nodes
from fyretoolkit.client.synchronous.organizations import Organizations
from fyretoolkit.client.synchronous.predictions import Predictions
from fyretoolkit.client.synchronous.transport import Transport
from fyretoolkit.client.synchronous.webhooks import Webhooks


class Client:
    """Calls one platform with one key. Made once and used by everybody in a process; close it at the end."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        attempt_timeout: float = DEFAULT_ATTEMPT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        http_client: httpx.Client | None = None,
    ) -> None:
        """Key and URL are those of `FYRE_API_KEY` and `FYRE_BASE_URL` unless they are passed.

        `timeout`: seconds of a call with all its attempts; `attempt_timeout`: of one of them.
        `http_client`: for proxies and certificates of your own, and yours to close.

        Raises:
            ConfigurationError: there is no key, or the URL is none.
        """
        account = account_of(api_key, base_url, os.environ)
        options = Options(timeout, attempt_timeout, max_retries)
        http = open_http(account.base_url) if http_client is None else http_client
        self._owned: httpx.Client | None = http if http_client is None else None
        self._use(Transport(http, account, options))

    def _use(self, transport: Transport) -> None:
        self._transport = transport
        self.models: Models = Models(transport)
        self.deployments: Deployments = Deployments(transport)
        self.predictions: Predictions = Predictions(transport)
        self.batch: Batch = Batch(transport)
        self.jobs: Jobs = Jobs(transport)
        self.deliveries: Deliveries = Deliveries(transport)
        self.files: Files = Files(transport)
        self.metrics: Metrics = Metrics(transport)
        self.api_keys: ApiKeys = ApiKeys(transport)
        self.organizations: Organizations = Organizations(transport)
        self.nodes: Nodes = Nodes(transport)
        self.webhooks: Webhooks = Webhooks(transport)

    def predict(
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
        return self.predictions.create(
            model, inputs, metadata=metadata, region=region, timeout_ms=timeout_ms, on_error=on_error
        )

    def with_options(
        self,
        *,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Client:
        """This client with other limits and the same connections, which stay this one's to close."""
        changed = self._transport.options.changed(
            timeout_s=timeout, attempt_timeout_s=attempt_timeout, max_retries=max_retries
        )
        client = object.__new__(type(self))
        client._owned = None
        client._use(self._transport.with_options(changed))
        return client

    def close(self) -> None:
        """Closes the connections; no call can be made any more."""
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Client:
        """The client, for as long as the block lasts."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        self.close()

    def __repr__(self) -> str:
        """Where it calls; of the key only what may be shown."""
        account = self._transport.account
        return f"{type(self).__name__}(base_url={account.base_url!r}, api_key='{account.masked}')"
