"""Which IP addresses the platform never connects to on a caller's behalf.

`ipaddress.is_global` is not enough: it is True for NAT64 and 6to4 forms of 169.254.169.254, for IPv4-compatible and
SIIT forms of loopback, for site-local and multicast addresses, and for the metadata services that clouds put on
otherwise public-looking addresses. It also changed between patch releases of Python. So the ranges are listed here,
each with its reason, and `is_global` is only one more reason to refuse.
Source: IANA special-purpose address registries (RFC 6890), RFC 6052, RFC 7915, RFC 3879, cloud vendors' manuals.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IpAddress = IPv4Address | IPv6Address

_LOOPBACK_V4 = IPv4Network("127.0.0.0/8")
_LOOPBACK_V6 = IPv6Address("::1")
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")

FORBIDDEN_V4: tuple[IPv4Network, ...] = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network": 0.0.0.0 connects to the machine itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform service
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
FORBIDDEN_V6: tuple[IPv6Network, ...] = tuple(
    IPv6Network(text)
    for text in (
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated (SIIT)
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local; AWS's metadata service is fd00:ec2::254
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)


def is_loopback(ip: IpAddress) -> bool:
    """Whether `ip` is 127.0.0.0/8 or ::1 as written, and not one of the forms that only lead there."""
    if isinstance(ip, IPv4Address):
        return ip in _LOOPBACK_V4
    return ip == _LOOPBACK_V6


def is_forbidden(ip: IpAddress, *, allow_loopback: bool = False) -> bool:
    """Whether the platform must not connect to `ip`; loopback itself is forgiven where `allow_loopback` says so."""
    if allow_loopback and is_loopback(ip):
        return False
    if isinstance(ip, IPv4Address):
        return not ip.is_global or any(ip in network for network in FORBIDDEN_V4)
    if ip.scope_id is not None or ip not in _GLOBAL_UNICAST_V6:
        return True
    return not ip.is_global or any(ip in network for network in FORBIDDEN_V6)
