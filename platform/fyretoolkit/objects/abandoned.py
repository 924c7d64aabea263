"""Multipart uploads that nobody will complete: found by their key, and aborted.

A process that is killed in an upload leaves parts that no reader sees and that are billed. pyarrow can neither list nor
abort them, so this speaks the two requests itself, signed as AWS's page "Signature Version 4" says (its example is a
test). boto3 for two requests was rejected: 90 MB that every node would have. Credentials are those of the environment
or of the shared file. Where others are used (a role of the instance) nothing is aborted, and the bucket's own rule,
AbortIncompleteMultipartUpload, is what removes them; it is worth having anyway.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import html
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from fyretoolkit.settings import S3Settings

logger = logging.getLogger(__name__)

_EMPTY = hashlib.sha256(b"").hexdigest()
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_FIELD = re.compile(r"<(Key|UploadId)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are signed with."""

    key_id: str
    secret: str
    token: str | None = None


def abort_uploads(settings: S3Settings, path: str, *, timeout_s: float) -> int:
    """Abort every unfinished upload of the object `bucket/key`; how many there were.

    This is housekeeping: a service that does not do as it is asked is noted, and nothing is raised.
    """
    credentials = find_credentials(os.environ)
    if settings.anonymous or credentials is None:
        return 0
    bucket, _, key = path.partition("/")
    region = (
        settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    )
    service = settings.endpoint or f"https://s3.{region}.amazonaws.com"
    signer = _Signer(credentials, region, service)
    try:
        with httpx.Client(timeout=timeout_s, trust_env=False) as http:
            listed = http.send(signer.request("GET", f"/{bucket}", {"uploads": "", "prefix": key}))
            listed.raise_for_status()
            found = _uploads_of(key, listed.text)
            for upload in found:
                http.send(
                    signer.request("DELETE", f"/{bucket}/{key}", {"uploadId": upload})
                ).raise_for_status()
    except httpx.HTTPError as error:
        logger.warning("unfinished uploads of %s were not aborted: %s", path, type(error).__name__)
        return 0
    return len(found)


def _uploads_of(key: str, listed: str) -> list[str]:
    """The ids of the uploads of this very key, in a list of those whose keys begin with it."""
    uploads = (dict(_FIELD.findall(upload)) for upload in _UPLOAD.findall(listed))
    return [html.unescape(each["UploadId"]) for each in uploads if html.unescape(each.get("Key", "")) == key]


def find_credentials(environ: Mapping[str, str]) -> Credentials | None:
    """Those of the environment, else of the profile in the shared file; None where there are neither."""
    key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if key_id and secret:
        return Credentials(key_id, secret, environ.get("AWS_SESSION_TOKEN") or None)
    path = Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read(path)
        profile = file[environ.get("AWS_PROFILE") or "default"]
        return Credentials(
            profile["aws_access_key_id"], profile["aws_secret_access_key"], profile.get("aws_session_token")
        )
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return None


class _Signer:
    """Requests without a body, by Signature Version 4."""

    def __init__(self, credentials: Credentials, region: str, service: str) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service.rstrip("/")

    def request(
        self, method: str, path: str, query: Mapping[str, str], now: float | None = None
    ) -> httpx.Request:
        """The request, as of now."""
        path = quote(path, safe="/-_.~")
        asked = "&".join(
            f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query)
        )
        headers = self._headers(time.time() if now is None else now)
        scope = f"{headers['x-amz-date'][:8]}/{self._region}/s3/aws4_request"
        names = ";".join(sorted(headers))
        canonical = "\n".join(
            (method, path, asked, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, _EMPTY)
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
        key = f"AWS4{self._credentials.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{self._credentials.key_id}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"
        )
        return httpx.Request(method, f"{self._service}{path}?{asked}", headers=headers)

    def _headers(self, now: float) -> dict[str, str]:
        """Those that are signed."""
        headers = {
            "host": urlsplit(self._service).netloc,
            "x-amz-content-sha256": _EMPTY,
            "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)),
        }
        return headers | (
            {"x-amz-security-token": self._credentials.token} if self._credentials.token else {}
        )
