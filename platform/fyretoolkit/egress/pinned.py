"""One connection, to addresses that were checked: what keeps a name from answering one thing to the guard and
another to the socket (DNS rebinding).

A name is resolved once; every address of the answer is checked; the connection goes to one of those addresses and to
nothing else, while Host, SNI and the certificate check keep the original name. This stands on httpcore, the layer
below httpx: it takes a network backend in its public interface, which `httpx.AsyncClient` does not, and it knows of
no proxy variables, no redirects, no cookies and no decompression that would have to be turned off.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

import httpcore

from fyretoolkit.egress.addresses import IpAddress, is_forbidden, is_loopback
from fyretoolkit.egress.urls import ParsedUrl, Policy, refusal

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to addresses as text. Raises OSError when the name does not resolve."""

_MAX_TRIED = 4  # each may take the whole connect timeout


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The addresses that the system's resolver gives for `host`, in its order of preference."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]


async def checked_addresses(url: ParsedUrl, policy: Policy, resolve: Resolver) -> tuple[IpAddress, ...]:
    """The addresses of `url`'s host, resolved once, if every one of them may be connected to.

    One bad address among good ones refuses them all: such an answer is an attack or a mistake. `localhost` must lead
    to loopback, and any other name must not, even where loopback is allowed.

    Raises:
        PlatformError: `url_not_allowed`.
        OSError: the name does not resolve.
    """
    if (literal := url.address) is not None:
        addresses: tuple[IpAddress, ...] = (literal,)
    else:
        assert url.port is not None  # noqa: S101 - the parser gives every http and https URL its port
        answers = await resolve(url.host, url.port)
        addresses = tuple(dict.fromkeys(map(ip_address, answers)))
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
    if url.is_named_loopback:
        is_refused = not (policy.is_loopback_allowed and all(map(is_loopback, addresses)))
    else:
        is_refused = any(is_forbidden(address) for address in addresses)
    if is_refused:
        raise refusal(f"{url.host} does not lead to a public address", policy)
    return addresses


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the given addresses, in order, whatever host it is asked for; never resolves anything."""

    def __init__(self, addresses: Sequence[IpAddress]) -> None:
        self._addresses = tuple(addresses)[:_MAX_TRIED]
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the name was resolved and checked before; it must not be resolved again
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A stream to the first address that accepts, each tried for `timeout` seconds."""
        failure: Exception = httpcore.ConnectError("no address to connect to")
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Certificate and host name checked against the system's roots (`SSL_CERT_FILE`) and certifi's."""
    return httpcore.default_ssl_context()
