"""What a call sends, and to whom."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest

from fyretoolkit import Client
from fyretoolkit.client import APIConnectionError, APIError, UnexpectedResponseError

_KEY = "sk_live_01ABC_secret"
_CONTENT = bytes(range(256))


class _Body(httpx.SyncByteStream):
    """A body of these blocks; an exception among them ends it."""

    def __init__(self, *blocks: bytes | Exception) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            if isinstance(block, Exception):
                raise block
            yield block


def _client(http: httpx.Client) -> Client:
    return Client(_KEY, base_url="https://api.example.com/fyre", http_client=http, max_retries=0)


def test_the_key_goes_to_the_platform_and_nowhere_else() -> None:
    """A download may be redirected to where the bytes lie; that host learns no key."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.host == "api.example.com":
            return httpx.Response(302, headers={"location": "https://bucket.example/file_1?signature=x"})
        return httpx.Response(200, stream=_Body(_CONTENT))

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        assert _client(http).files.content("file_1") == _CONTENT
    assert [str(each.url) for each in asked] == [
        "https://api.example.com/fyre/files/file_1/content",
        "https://bucket.example/file_1?signature=x",
    ]
    expected = "Basic " + b64encode(f"{_KEY}:".encode()).decode()
    assert [each.headers.get("authorization") for each in asked] == [expected, None]


def test_a_call_that_changes_something_follows_no_redirect() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"location": "https://other.example"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(APIError, match="status 307") as refused:
            _client(http).jobs.cancel("job_1")
        assert refused.value.status == 307


def test_an_endless_redirect_is_no_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": str(request.url)})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http, pytest.raises(APIConnectionError):
        _client(http).models.list()


def test_a_range_that_is_not_kept_is_told_and_not_glued_together() -> None:
    """The second answer begins at the first byte again, although a later one was asked for."""

    cut = _Body(_CONTENT[:100], httpx.ReadError("dropped"))
    answers = [httpx.Response(200, stream=cut), httpx.Response(200, stream=_Body(_CONTENT))]
    with httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0))) as http:
        client = _client(http).with_options(max_retries=2)
        with pytest.raises(UnexpectedResponseError, match="range"):
            client.files.content("file_1")
    assert answers == []
