"""Sends calls: attempt after attempt, each within its time, and reads whether it is an answer or an error."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from fyretoolkit.client.calls import Call, get
from fyretoolkit.client.errors import (
    APIConnectionError,
    APIError,
    FyreError,
    UnexpectedResponseError,
    api_error,
)
from fyretoolkit.client.options import Account, Options
from fyretoolkit.client.reading import read_resource
from fyretoolkit.client.retries import Attempts
from fyretoolkit.client.seams import async_file_blocks, async_sleep, async_within, timeouts_of, translated
from fyretoolkit.schemas.wire import Resource

R = TypeVar("R", bound=Resource)

_PARTIAL_CONTENT = 206
_BEHIND_THE_END = 416
_AGENT = "fyretoolkit-python"


class AsyncTransport:
    """What every resource sends its calls through."""

    def __init__(self, http: httpx.AsyncClient, account: Account, options: Options) -> None:
        """`http` is owned by whoever opened it, and shared by transports with other options."""
        self.http: httpx.AsyncClient = http
        self.account: Account = account
        self.options: Options = options

    def with_options(self, options: Options) -> AsyncTransport:
        """The same connections with other limits."""
        return AsyncTransport(self.http, self.account, options)

    async def fetch(self, call: Call, kind: type[R]) -> R:
        """The resource that the platform answers.

        Raises:
            FyreError: any of the tree in `errors.py` but those of waiting.
        """
        return read_resource(kind, await self.send(call), context=self)

    async def send(self, call: Call) -> bytes:
        """The body of the answer, which is a success."""
        async with self._answered(call, is_streamed=False) as answer:
            return answer.content

    async def blocks(self, path: str, start: int = 0) -> AsyncIterator[bytes]:
        """A download from the byte `start` on, block after block; nothing if it has no more.

        A connection that drops is followed by another one where it ended, as often in a row as a call is retried.
        """
        attempts = Attempts(self.options, is_repeatable=True)
        while True:
            attempts.begin()
            try:
                async with self._answered(_ranged(path, start), is_streamed=True) as answer:
                    if start and answer.status_code != _PARTIAL_CONTENT:
                        raise UnexpectedResponseError("The answer is not the range that was asked for.")
                    try:
                        with translated():
                            async for block in answer.aiter_raw():
                                start += len(block)
                                yield block
                                attempts = Attempts(self.options, is_repeatable=True)
                                attempts.begin()
                    except APIConnectionError as failure:
                        pause_s = attempts.pause_after(failure)
                    else:
                        return
            except APIError as failure:
                if start and failure.status == _BEHIND_THE_END:
                    return
                raise
            await async_sleep(pause_s)

    @asynccontextmanager
    async def _answered(self, call: Call, *, is_streamed: bool) -> AsyncIterator[httpx.Response]:
        answer = await self._attempted(call, is_streamed)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _attempted(self, call: Call, is_streamed: bool) -> httpx.Response:
        options = self.options.changed(timeout_s=self.options.timeout_s + call.extra_timeout_s)
        attempts = Attempts(options, is_repeatable=call.is_repeatable)
        while True:
            try:
                async with async_within(attempts.begin(call.extra_timeout_s)):
                    return await self._once(call, is_streamed)
            except FyreError as failure:
                pause_s = attempts.pause_after(failure)
            await async_sleep(pause_s)

    async def _once(self, call: Call, is_streamed: bool) -> httpx.Response:
        """One attempt.

        Raises:
            APIError, APIConnectionError.
        """
        with translated():
            answer = await self.http.send(
                self._request(call),
                auth=httpx.BasicAuth(self.account.api_key, ""),
                stream=True,
                follow_redirects=call.method == "GET",
            )
            try:
                if not (is_streamed and answer.is_success):
                    await answer.aread()
            except BaseException:
                await answer.aclose()
                raise
        if not answer.is_success:
            await answer.aclose()
            raise api_error(answer.status_code, answer.headers, answer.content, now=time.time())
        return answer

    def _request(self, call: Call) -> httpx.Request:
        headers: dict[str, str] = {"accept": "application/json", "user-agent": _AGENT, **call.headers}
        content = call.content
        if isinstance(content, Path):
            headers["content-length"] = str(content.stat().st_size)
        return self.http.build_request(
            call.method,
            self.account.base_url + call.path,
            params=dict(call.query) or None,
            headers=headers,
            content=async_file_blocks(content) if isinstance(content, Path) else content,
            timeout=timeouts_of(self.options),
        )


def _ranged(path: str, start: int) -> Call:
    call = get(path)
    headers: Mapping[str, str] = {"accept": "*/*", "accept-encoding": "identity"}
    return Call(call.method, path, headers={**headers, "range": f"bytes={start}-"} if start else headers)
