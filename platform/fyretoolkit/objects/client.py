"""S3 and services like it, through `pyarrow.fs`: the platform's one client of object storage.

pyarrow is here anyway, speaks to every service of this kind and finds credentials as AWS's own tools do, so no key
passes through our settings; boto3 would be a second stack for the same requests. A client is opened for each use (4 ms)
and dropped after it: one that outlives the interpreter may hang the process at its end (apache/arrow#50188). Its calls
block, each within its own time, which is that of one request times the attempts at it.
Source: Arrow's `s3_internal.h` for how errors are worded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fyretoolkit.settings import S3Settings

CHUNK_BYTES = 8 << 20
"""Each read is a request of its own: of this many bytes."""
_ATTEMPTS = 3
_REGION = "us-east-1"
"""What services other than AWS's call their only one; asking for it would ask AWS's metadata service."""

_CODE = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))?")
_WORDS = {
    "ACCESS_DENIED": "does not let the platform's credentials do this",
    "INVALID_ACCESS_KEY_ID": "does not know the platform's credentials",
    "SIGNATURE_DOES_NOT_MATCH": "does not accept the platform's credentials",
    "MISSING_AUTHENTICATION_TOKEN": "asks for credentials, and the platform has none",
    "NETWORK_CONNECTION": "did not answer",
    "NO_SUCH_BUCKET": "has no such bucket",
}


class ObjectNotFoundError(Exception):
    """There is no such object, or no such bucket."""


class StorageError(Exception):
    """The service did not do what it was asked for. `words` follow its name in a sentence and hold nothing secret."""

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(words)


def open_client(settings: S3Settings, *, connect_s: float, read_s: float) -> Any:
    """A `pyarrow.fs.S3FileSystem`, without a request yet. A service that is silent for `read_s` has failed.

    pyarrow.fs is imported by the first call: half a second that only users of object storage pay.
    """
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        endpoint_override=settings.endpoint,
        region=settings.region or (_REGION if settings.endpoint else None),
        anonymous=settings.anonymous,
        connect_timeout=connect_s,
        request_timeout=read_s,
        allow_delayed_open=True,  # a small object is one request, not a multipart upload of three
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translates what pyarrow raises. For calls of the client alone: errors of our own disk are OSErrors too.

    Raises:
        ObjectNotFoundError: instead of FileNotFoundError.
        StorageError: instead of any other OSError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError from error
    except OSError as error:
        raise StorageError(_words(str(error))) from error


def _words(message: str) -> str:
    """What went wrong, without the service's own words, which may hold anything."""
    found = _CODE.search(message)
    if found is None:
        return "failed"
    status = f" {found[2]}" if found[2] else ""
    return _WORDS.get(found[1], f"answered with an error ({found[1]}{status})")
