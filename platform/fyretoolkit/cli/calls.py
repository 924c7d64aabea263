"""One call to the API from the command line, and how its failure is told.

The platform is named by `FYRE_BASE_URL`, the key by `FYRE_API_KEY`; there is no option for the key, because arguments
show in process lists and shell histories.

Exit codes: 0 done; 1 the platform refused (its code, message and request id are on stderr); 2 the command was not
understood, or there is no key; 3 the platform did not answer, or what answered is not the platform.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import typer

from fyretoolkit.schemas.errors import ErrorEnvelope

DEFAULT_BASE_URL = "http://localhost:8000"
REFUSED, MISUSED, NO_ANSWER = 1, 2, 3
_TIMEOUT_S = 30.0


def call(method: str, path: str, kind: str, **options: Any) -> dict[str, Any]:
    """The object of this kind that the platform answers; anything else ends the command with its exit code."""
    base_url = (os.environ.get("FYRE_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
    key = os.environ.get("FYRE_API_KEY") or ""
    if not key:
        end(MISUSED, "No API key. Set FYRE_API_KEY to a key that carries the scope admin.")
    try:
        answer = httpx.request(
            method,
            base_url + path,
            auth=httpx.BasicAuth(key, ""),
            timeout=_TIMEOUT_S,
            trust_env=not _is_this_machine(base_url),  # the proxy for the internet knows no localhost
            **options,
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        end(
            MISUSED,
            f"FYRE_BASE_URL is not a usable URL: {str(error).rstrip('.')}. Example: https://api.example.com",
        )
    except httpx.HTTPError as error:
        end(NO_ANSWER, f"{base_url} does not answer: {error or type(error).__name__}. Check FYRE_BASE_URL.")
    return _read(base_url, answer, kind)


def end(exit_code: int, message: str) -> NoReturn:
    """Leave with a sentence on stderr."""
    typer.echo(message, err=True)
    raise typer.Exit(exit_code)


def _read(base_url: str, answer: httpx.Response, kind: str) -> dict[str, Any]:
    try:
        found: Any = answer.json()
        if answer.is_success and isinstance(found, dict) and found.get("object") == kind:
            return found
        error = ErrorEnvelope.model_validate(found).error
    except ValueError:  # no JSON, or another one
        end(
            NO_ANSWER,
            f"{base_url} answered {answer.status_code}, but not as FyreToolkit does. Check FYRE_BASE_URL.",
        )
    end(REFUSED, f"{error.code}: {error.message}\nrequest id: {error.request_id}")


def _is_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
