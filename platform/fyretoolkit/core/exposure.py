"""Who can reach the HTTP API: what mode, listening address, TLS and public URL may be together.

Keys travel in a header of every request, and development mode has a key that everybody knows. So development mode
listens on this machine alone, and production mode listens further only if TLS ends in front of it: HAProxy, as Serve
runs it, speaks none. Every refusal is one sentence that says what to do.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

LOOPBACK = "127.0.0.1"

_PUBLIC_URL = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?"
)


def parse_host(text: str) -> str:
    """The address to listen on, in its canonical spelling; `localhost` is 127.0.0.1.

    Raises:
        ValueError: it is no address.
    """
    if text == "localhost":
        return LOOPBACK
    try:
        found = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        found = None
    if found is None or "%" in text:
        raise ValueError(
            f"FYRE_HOST is {text!r}, which is no address: write one of this machine's, "
            f"0.0.0.0 for all of them, or {LOOPBACK} for this machine alone (--host)."
        )
    return str(found)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host (`parse_host` has seen it)."""
    return ip_address(host).is_loopback


@lru_cache(maxsize=1024)
def is_own_name(host: str) -> bool:
    """Whether a Host header, with or without a port, can only mean this machine: no DNS decides where it leads."""
    name = re.sub(r":[0-9]*$", "", host.lower()).removesuffix(".")
    try:
        return is_loopback(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def parse_public_url(text: str) -> str:
    """Where callers reach the API, without a trailing slash.

    Raises:
        ValueError: it is not a scheme and a host, perhaps with a port, and nothing else.
    """
    match = _PUBLIC_URL.fullmatch(text.lower())
    if match is None or int((match[3] or ":1")[1:]) not in range(1, 65_536):
        raise ValueError(
            f"FYRE_PUBLIC_URL is {text!r}: write a scheme and a host, perhaps a port, and nothing else, "
            "as in https://api.example.com (--public-url)."
        )
    return f"{match[1]}://{match[2]}{match[3] or ''}"


def check_exposure(
    *, is_development: bool, host: str, is_tls_terminated: bool, public_url: str | None
) -> None:
    """Refuses a combination in which keys could be read on their way, or the demo key used from elsewhere.

    Raises:
        ValueError: with the way out.
    """
    is_private = is_loopback(host)
    if is_development and not is_private:
        raise ValueError(
            f"FYRE_HOST is {host}, which other machines can reach, and in development mode everybody knows the demo "
            "key: leave --host out, or use --mode production."
        )
    if not is_private and not is_tls_terminated:
        raise ValueError(
            f"FYRE_HOST is {host}, which other machines can reach, and the platform speaks no TLS: keys would travel "
            "in clear. Let a TLS proxy stand in front and say so with --tls-terminated (FYRE_TLS_TERMINATED=1), "
            "or leave --host out."
        )
    is_plain = public_url is not None and public_url.startswith("http://")
    if not is_development and is_plain and not (is_private and _names_this_machine(public_url or "")):
        raise ValueError(
            f"FYRE_PUBLIC_URL is {public_url}: keys would travel in clear. In production mode it begins with https:// "
            "(--public-url)."
        )


def _names_this_machine(url: str) -> bool:
    return is_own_name(url.partition("://")[2])
