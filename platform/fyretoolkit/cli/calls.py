"""The client that commands call through, and how its failures end a command.

The platform is named by `FYRE_BASE_URL`, the key by `FYRE_API_KEY`; there is no option for the key, because arguments
show in process lists and shell histories.

Exit codes, of every command: 0 done; 1 refused, or what was waited for failed; 2 the command was not understood, there
is no key, or a local file cannot be used; 3 the platform did not answer, or what answered is not the platform; 4 the
job that was waited for is canceled; 130 interrupted. Of a job they are those of `python -m batch.run`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from fyretoolkit.client import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    Client,
    ConfigurationError,
    FyreError,
    PermissionDeniedError,
    RateLimitError,
    UnexpectedResponseError,
)
from fyretoolkit.client.options import DEFAULT_BASE_URL

DONE, REFUSED, MISUSED, NO_ANSWER, CANCELED, INTERRUPTED = 0, 1, 2, 3, 4, 130
_NOT_OURS = "unexpected_answer"


@contextmanager
def platform_client() -> Iterator[Client]:
    """A client of the platform that the environment names; a failure inside ends the command with its exit code."""
    try:
        with Client() as client:
            yield client
    except ConfigurationError as error:
        end(MISUSED, _configuration(error))
    except FyreError as error:
        end(*_ending(error))
    except BrokenPipeError:  # whoever reads the output has enough of it (`| head`)
        raise
    except OSError as error:
        end(MISUSED, f"Cannot use {error.filename}: {error.strerror}.")
    except (ValueError, TypeError) as error:  # an id that is none, inputs that are no JSON
        end(MISUSED, str(error))


def end(exit_code: int, message: str) -> NoReturn:
    """Leave with a sentence on stderr."""
    typer.echo(message, err=True)
    raise typer.Exit(exit_code)


def base_url() -> str:
    """Where the platform is looked for."""
    return (os.environ.get("FYRE_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")


def _configuration(error: ConfigurationError) -> str:
    """The client's own sentence, with what a shell does about a missing key."""
    said = str(error)
    if said.startswith("No API key"):
        return 'No API key. Set FYRE_API_KEY; for a platform of this machine: eval "$(fyre env)".'
    return said


def _ending(error: FyreError) -> tuple[int, str]:
    """Exit code and words of an error that a call raised."""
    url = base_url()
    if isinstance(error, APIError) and error.code != _NOT_OURS:
        return REFUSED, "\n".join(_refusal(error))
    if isinstance(error, APIConnectionError):
        said = str(error).removeprefix("No answer: ").rstrip(".")
        return NO_ANSWER, f"{url} does not answer: {said}. Check FYRE_BASE_URL, or ask fyre doctor."
    if isinstance(error, APIError | UnexpectedResponseError):
        status = f" {error.status}" if isinstance(error, APIError) else ""
        return NO_ANSWER, f"{url} answered{status}, but not as FyreToolkit does. Check FYRE_BASE_URL."
    return REFUSED, str(error)


def _refusal(error: APIError) -> Iterator[str]:
    """Code and message, the next step where the command line has one of its own, and the request id."""
    yield f"{error.code}: {error.message}"
    if isinstance(error, AuthenticationError):
        yield "next: set FYRE_API_KEY to a key that works; fyre doctor checks it"
    elif isinstance(error, PermissionDeniedError):
        yield "next: use a key with that scope; fyre keys list shows what each may do"
    elif isinstance(error, RateLimitError) and error.retry_after_s is not None:
        yield f"next: run it again in {error.retry_after_s:.0f} s"
    yield f"request id: {error.request_id}"
