"""Unfinished uploads of one object are aborted, and those of others are not."""

from __future__ import annotations

import re
from pathlib import Path

import boto3
import httpx
import pytest

from fyretoolkit.objects.abandoned import Credentials, _Signer, abort_uploads, find_credentials
from fyretoolkit.settings import S3Settings
from tests.support.s3_server import CREDENTIALS, S3Server


def test_requests_are_signed_as_the_specification_shows() -> None:
    """AWS, "Signature Calculations for the Authorization Header", example "GET Bucket Lifecycle"."""
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    signer = _Signer(credentials, "us-east-1", "https://examplebucket.s3.amazonaws.com")
    request = signer.request("GET", "/", {"lifecycle": ""}, now=1_369_353_600)  # 20130524T000000Z
    assert re.search(r"SignedHeaders=(.*),Signature=(.*)", request.headers["authorization"]).groups() == (  # type: ignore[union-attr]
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    )


def test_uploads_of_the_object_are_aborted_and_no_others(s3: S3Server) -> None:
    """Keys that begin alike, and keys that need escapes."""
    s3.put("abandoned/other", b"")
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    wanted, longer = "a b/s&p+é.jsonl", "a b/s&p+é.jsonl.old"
    for key in (wanted, wanted, longer):
        client.create_multipart_upload(Bucket="abandoned", Key=key)
    settings = S3Settings(**s3.settings)
    assert abort_uploads(settings, f"abandoned/{wanted}", timeout_s=60) == 2
    left = client.list_multipart_uploads(Bucket="abandoned")["Uploads"]
    assert [upload["Key"] for upload in left] == [longer]
    assert abort_uploads(settings, f"abandoned/{wanted}", timeout_s=60) == 0


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", None])
def test_a_service_that_does_not_answer_raises_nothing(
    endpoint: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The results matter more."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def refuse(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(httpx.Client, "send", refuse)
    assert abort_uploads(S3Settings(endpoint=endpoint), "bucket/key", timeout_s=1) == 0
    assert "bucket/key" in caplog.text


def test_credentials_are_the_environments_or_the_shared_files(tmp_path: Path) -> None:
    """As AWS's tools look for them; without any, nothing is asked."""
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b%\n[two]\naws_access_key_id = c\n"
    )
    shared = {"AWS_SHARED_CREDENTIALS_FILE": str(path)}
    given = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_SESSION_TOKEN": "z"}
    assert find_credentials({**shared, **given}) == Credentials("x", "y", "z")
    assert find_credentials(shared) == Credentials("a", "b%")
    assert find_credentials({**shared, "AWS_PROFILE": "two"}) is None
    assert find_credentials({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}) is None
