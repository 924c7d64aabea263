"""Key, URL and limits of a client, and what goes over the wire before it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from fyretoolkit import AsyncClient, Client
from fyretoolkit.client.calls import create, get, is_url, path_of
from fyretoolkit.client.errors import ConfigurationError
from fyretoolkit.client.inputs import check_inputs, dump
from fyretoolkit.client.options import Options, account_of
from fyretoolkit.client.seams import _proxy_for

_KEY = "sk_live_01ABC_secretsecretsecret"


def test_key_and_url_are_those_of_the_environment_unless_they_are_passed() -> None:
    environment = {"FYRE_API_KEY": _KEY, "FYRE_BASE_URL": "https://api.example.com/"}
    assert account_of(None, None, environment).base_url == "https://api.example.com"
    other = account_of("sk_live_other_x", "http://127.0.0.1:1/fyre/", environment)
    assert (other.api_key, other.base_url) == ("sk_live_other_x", "http://127.0.0.1:1/fyre")
    assert account_of(_KEY, None, {}).base_url == "http://localhost:8000"


@pytest.mark.parametrize(
    ("key", "url"),
    [
        (None, None),
        (" ", None),
        ("sk:x", None),
        ("sk\nx", None),
        ("schlüssel", None),
        (_KEY, "api.example.com"),
        (_KEY, "ftp://api.example.com"),
        (_KEY, "http://"),
        (_KEY, "http://a:b@api.example.com"),
        (_KEY, "http://api.example.com:99999"),
        (_KEY, "http://api.example.com?x=1"),
    ],
)
def test_what_no_call_could_use_is_refused_when_the_client_is_made(key: str | None, url: str | None) -> None:
    with pytest.raises(ConfigurationError):
        account_of(key, url, {})


@pytest.mark.parametrize("limits", [{"timeout_s": 0}, {"attempt_timeout_s": -1}, {"max_retries": -1}])
def test_limits_that_no_call_could_keep_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Options(**limits)


def test_the_key_is_shown_nowhere() -> None:
    """Of a key of ours its id, of anything else nothing."""
    for kind in (Client, AsyncClient):
        client = kind(_KEY, base_url="https://api.example.com")
        assert (
            repr(client)
            == f"{kind.__name__}(base_url='https://api.example.com', api_key='sk_live_01ABC_***')"
        )
        assert "***" in repr(kind("somebody-elses"))
        assert "somebody" not in repr(kind("somebody-elses"))
    assert "secret" not in repr(account_of(_KEY, None, {}))


def test_other_options_leave_the_client_as_it_is() -> None:
    client = Client(_KEY, timeout=50)
    other = client.with_options(max_retries=0, timeout=1.5)
    assert other._transport.options == Options(1.5, 60.0, 0)
    assert client._transport.options == Options(50, 60.0, 2)
    assert other._transport.http is client._transport.http
    other.close()
    assert not client._transport.http.is_closed
    client.close()
    assert client._transport.http.is_closed


def test_the_proxy_of_the_environment_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert _proxy_for("https://api.example.com") == "http://proxy.example:3128"
    for url in (
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://[::1]:1",
        "http://api.localhost",
        "https://inside.example",
    ):
        assert _proxy_for(url) is None


def test_no_id_leads_to_another_path() -> None:
    assert path_of("jobs", "../models?x=1#y", "output") == "/jobs/..%2Fmodels%3Fx%3D1%23y/output"
    for segment in ("", ".", ".."):
        with pytest.raises(ValueError, match="not an id"):
            path_of("jobs", segment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a/b.csv", True),
        ("s3://bucket/key", True),
        ("fyre://files/file_1", True),
        ("models://digits", True),
        ("rows.csv", False),
        ("/data/rows.csv", False),
        ("C://rows.csv", False),
        ("dir/http://x", False),
    ],
)
def test_a_url_is_told_from_a_local_path(text: str, expected: bool) -> None:
    assert is_url(text) is expected


def test_what_is_none_is_left_out_and_each_creation_has_its_own_key(tmp_path: Path) -> None:
    assert get("/jobs", limit=None, starting_after="job_1").query == {"starting_after": "job_1"}
    first, second = (create("/models", None, id="m", sha256=None) for _ in range(2))
    assert first.content == b'{"id":"m"}'
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert create("/models", "mine", id="m").headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.arange(6, dtype=">f8").reshape(2, 3),
        np.arange(12, dtype=np.int64).reshape(2, 6)[:, ::2] // 2,
        np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)),
        [np.array([0.0, 1.0, 2.0]), np.array([3, 4, 5])],
        [[np.float32(0), np.int8(1), 2], (3, 4, 5)],
    ],
    ids=["float32", "float16", "other-endian", "strided", "fortran", "list", "scalars"],
)
def test_arrays_of_any_layout_become_the_same_numbers(array: Any) -> None:
    sent = orjson.loads(dump({"inputs": check_inputs(array)}))["inputs"]
    assert np.array(sent, dtype=float).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_texts_of_numpy_are_texts() -> None:
    assert orjson.loads(dump(np.array(["a", "ä"]))) == ["a", "ä"]


@pytest.mark.parametrize("inputs", ["text", b"bytes", {"feature": 1}])
def test_one_input_is_not_a_list_of_them(inputs: Any) -> None:
    with pytest.raises(TypeError, match="list"):
        check_inputs(inputs)


def test_what_is_neither_json_nor_an_array_is_told() -> None:
    with pytest.raises(TypeError, match="not JSON serializable: object"):
        dump([object()])


def test_a_pool_of_the_callers_own_is_theirs_to_close() -> None:
    with httpx.Client() as http:
        client = Client(_KEY, http_client=http)
        client.close()
        assert client._transport.http is http
        assert not http.is_closed
