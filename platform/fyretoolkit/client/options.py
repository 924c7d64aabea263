"""How a client calls: where, with which key, how long and how often. Read once, when the client is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fyretoolkit.client.errors import ConfigurationError

DEFAULT_BASE_URL = "http://localhost:8000"
DEFAULT_TIMEOUT_S = 120.0
DEFAULT_ATTEMPT_TIMEOUT_S = 60.0
DEFAULT_MAX_RETRIES = 2
_SHOWN = re.compile(r"(sk_live_[^_]*_).*")


@dataclass(frozen=True, slots=True)
class Options:
    """Limits of each call. Seconds; a job or deployment is waited for by other ones."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    """Of a call with all its attempts and the pauses between them."""
    attempt_timeout_s: float = DEFAULT_ATTEMPT_TIMEOUT_S
    """Of one attempt; of a download, of each read."""
    max_retries: int = DEFAULT_MAX_RETRIES
    """Attempts after the first one."""

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a limit that no call could keep."""
        if self.timeout_s <= 0 or self.attempt_timeout_s <= 0:
            raise ConfigurationError("Timeouts are seconds and greater than 0.")
        if self.max_retries < 0:
            raise ConfigurationError("max_retries is 0 or more.")

    def changed(self, **changes: Any) -> Options:
        """These options but for the changes that are not None."""
        now = {name: getattr(self, name) for name in ("timeout_s", "attempt_timeout_s", "max_retries")}
        return Options(**{**now, **{name: value for name, value in changes.items() if value is not None}})


@dataclass(frozen=True, slots=True)
class Account:
    """The platform and the key. The key is in no `repr`."""

    base_url: str
    api_key: str = field(repr=False)

    @property
    def masked(self) -> str:
        """The key as it may be shown."""
        shown = _SHOWN.fullmatch(self.api_key)
        return f"{shown[1]}***" if shown else "***"


def account_of(api_key: str | None, base_url: str | None, environment: Mapping[str, str]) -> Account:
    """What was passed, else `FYRE_API_KEY` and `FYRE_BASE_URL`.

    Raises:
        ConfigurationError: there is no key, or the URL is none.
    """
    key = (api_key or environment.get("FYRE_API_KEY") or "").strip()
    if not key:
        raise ConfigurationError("No API key. Set FYRE_API_KEY, or pass api_key.")
    if not (key.isascii() and key.isprintable()) or ":" in key:
        raise ConfigurationError("The API key is not one: it holds characters that no key has.")
    url = (base_url or environment.get("FYRE_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    if not _is_web_url(url):
        raise ConfigurationError(
            f"The base URL {url!r} is not usable. Set FYRE_BASE_URL to one such as https://api.example.com."
        )
    return Account(url, key)


def is_this_machine(url: str) -> bool:
    """Whether the host is this machine, which no proxy for the internet knows."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".localhost")


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )
    except ValueError:
        return False
