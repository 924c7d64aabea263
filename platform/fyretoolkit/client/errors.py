"""Everything that a call may raise, as one tree below `FyreError`.

    FyreError
    ├── ConfigurationError          no key, or a base URL that is none
    ├── MissingPackageError         pyarrow or pandas is not installed
    ├── APIConnectionError          no answer came
    │   └── APITimeoutError         not within the time that was given
    ├── UnexpectedResponseError     what answered is not FyreToolkit, or is newer than this client
    ├── WaitTimeoutError            a job or deployment did not end in time; it goes on
    ├── DeploymentFailedError       it never became ready
    ├── WebhookVerificationError    the body was not signed with this secret, or too long ago
    └── APIError                    the platform refused; `code` says why
        ├── InvalidRequestError     400, and every other 4xx about the request itself
        ├── AuthenticationError     401
        ├── PermissionDeniedError   403
        ├── NotFoundError           404
        ├── ConflictError           409
        ├── UnprocessableError      422
        ├── RateLimitError          429
        └── ServerError             408 and 5xx

The classes follow the status, which is all that a handler branches on; `code` is one of `ERRORS.md`, and a class for
each code was rejected, because a new code would then need a new client. Source of the shape: openai-python,
stripe-python.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from pydantic import ValidationError

from fyretoolkit.client.retry_after import read_retry_after
from fyretoolkit.schemas.errors import ErrorEnvelope

_NOT_OURS = "unexpected_answer"


class FyreError(Exception):
    """The root: `except FyreError` catches whatever this client raises."""

    attempts: int = 1
    """How often the call was sent before it was given up."""


class ConfigurationError(FyreError, ValueError):
    """The client cannot be made as it was asked for."""


class MissingPackageError(FyreError, ImportError):
    """What was asked for needs a package that is not installed; the message says which."""


class APIConnectionError(FyreError):
    """No answer came, or not all of it."""

    is_sent: bool
    """Whether the request may have reached the platform; if not, it certainly had no effect."""

    def __init__(self, message: str, *, is_sent: bool = True) -> None:
        self.is_sent = is_sent
        super().__init__(message)


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came within the time that was given."""


class UnexpectedResponseError(FyreError):
    """The answer was a success that this client cannot read."""


class WaitTimeoutError(FyreError, TimeoutError):
    """What was waited for did not happen in time; it goes on, and can be waited for again."""


class DeploymentFailedError(FyreError):
    """The deployment never became ready, or is deleted; `code` and `message` say why."""

    def __init__(self, deployment_id: str, code: str, message: str) -> None:
        self.deployment_id: str = deployment_id
        self.code: str = code
        self.message: str = message
        super().__init__(f"{deployment_id}: {code}: {message}")


class WebhookVerificationError(FyreError):
    """The body was not signed with this secret, or longer ago than five minutes. Answer 400 and do nothing."""


class APIError(FyreError):
    """The platform refused. `details` is more for programs, by code; `retry_after_s` is there where waiting helps."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        request_id: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status: int = status
        self.code: str = code
        self.message: str = message
        self.request_id: str = request_id
        self.details: Mapping[str, Any] | None = details
        self.retry_after_s: float | None = retry_after_s
        super().__init__(f"{code}: {message}" + (f" (request id: {request_id})" if request_id else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Crosses process borders with everything that it says."""
        named = {
            "request_id": self.request_id,
            "details": self.details,
            "retry_after_s": self.retry_after_s,
        }
        return (_rebuilt, (type(self), (self.status, self.code, self.message), named))


class InvalidRequestError(APIError):
    """400, and every other 4xx about the request itself: `details["fields"]` names what to correct."""


class AuthenticationError(APIError):
    """401: the key is missing, unknown, revoked or expired."""


class PermissionDeniedError(APIError):
    """403: the key does not carry the scope that the message names."""


class NotFoundError(APIError):
    """404: nothing has this id, or it belongs to another organization."""


class ConflictError(APIError):
    """409: the request conflicts with the current state."""


class UnprocessableError(APIError):
    """422: well-formed but impossible, such as inputs that do not fit the model's signature."""


class RateLimitError(APIError):
    """429: the limit of this key is used up for `retry_after_s` seconds."""


class ServerError(APIError):
    """408 and 5xx: the platform could not answer this time."""


_CLASSES: Mapping[int, type[APIError]] = MappingProxyType(
    {
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        408: ServerError,
        409: ConflictError,
        422: UnprocessableError,
        429: RateLimitError,
    }
)


def api_error(status: int, headers: Mapping[str, str], content: bytes, *, now: float) -> APIError:
    """The error in an answer that is no success. `headers` are looked up without regard to case; `now` is Unix time.

    What a proxy on the way says in its own words has the code `unexpected_answer`.
    """
    retry_after_s = read_retry_after(headers.get("retry-after"), now=now)
    kind = _CLASSES.get(status, InvalidRequestError if status < 500 else ServerError)
    try:
        error = ErrorEnvelope.model_validate(orjson.loads(content), extra="ignore").error
    except (orjson.JSONDecodeError, ValidationError):
        message = f"The answer has status {status}, but is not one of FyreToolkit's. Check the base URL."
        request_id = headers.get("x-request-id", "")
        return kind(status, _NOT_OURS, message, request_id=request_id, retry_after_s=retry_after_s)
    return kind(
        status,
        error.code,
        error.message,
        request_id=error.request_id,
        details=error.details,
        retry_after_s=retry_after_s,
    )


def _rebuilt(kind: type[APIError], arguments: tuple[int, str, str], named: dict[str, Any]) -> APIError:
    return kind(*arguments, **named)
