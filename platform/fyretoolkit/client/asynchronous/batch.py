"""`client.batch`: where jobs begin."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from fyretoolkit.client.asynchronous.files import AsyncFiles
from fyretoolkit.client.asynchronous.jobs import AsyncJob
from fyretoolkit.client.asynchronous.transport import AsyncTransport
from fyretoolkit.client.calls import create, path_of


class AsyncBatch:
    """Batch prediction over a CSV or JSONL file."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        model: str,
        input: str | PathLike[str],  # noqa: A002 - what it is called everywhere else
        *,
        output_format: Literal["jsonl", "csv"] | None = None,
        max_error_rate: float | None = None,
        timeout_s: int | None = None,
        webhook: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """A new job, queued; `wait` waits for its end.

        `input`: a URL, or the path of a local file, which is uploaded first. `timeout_s`: of the job itself.
        """
        key = idempotency_key or uuid.uuid4().hex
        call = create(
            path_of("batch", model),
            key,
            input_url=await AsyncFiles(self._transport).uri_of(input, key),
            webhook=webhook,
            output_format=output_format,
            max_error_rate=max_error_rate,
            timeout_s=timeout_s,
            metadata=metadata,
        )
        return await self._transport.fetch(call, AsyncJob)
