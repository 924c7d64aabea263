"""The block-list, against a hand-written table and against every IPv6 form that hides an IPv4 address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyretoolkit.egress.addresses import FORBIDDEN_V4, is_forbidden, is_loopback

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1",
    "127.255.255.254", "169.254.169.254", "169.254.0.1", "168.63.129.16", "172.16.0.1", "172.31.255.255",
    "192.0.0.9", "192.0.0.10", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::",
    "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1",
    "::ffff:0:808:808", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2001:20::1", "2002:a9fe:a9fe::",
    "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "2606:4700::1111%eth0", "4000::1", "8000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.255.255", "172.15.255.255", "172.32.0.0",
    "192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2001:4860:4860::8888", "2600:1f18::1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORBIDDEN)
def test_forbidden_address_is_refused(text: str) -> None:
    """Private, local, translated, reserved and cloud-metadata addresses are never connected to."""
    assert is_forbidden(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_address_is_allowed(text: str) -> None:
    """The neighbours of the forbidden ranges, and well-known public hosts, stay reachable."""
    assert not is_forbidden(ip_address(text))


@pytest.mark.parametrize("text", FORBIDDEN)
def test_allowing_loopback_allows_nothing_else(text: str) -> None:
    """Only 127.0.0.0/8 and ::1 as written: not 0.0.0.0, and no form that merely leads to loopback."""
    is_plain_loopback = text.startswith("127.") or text == "::1"
    assert is_forbidden(ip_address(text), allow_loopback=True) is not is_plain_loopback
    assert is_loopback(ip_address(text)) is is_plain_loopback


@given(st.sampled_from(FORBIDDEN_V4), st.integers(min_value=0))
def test_every_address_of_a_forbidden_v4_range_is_refused(network: object, offset: int) -> None:
    """The ranges are matched whole, not by their first address."""
    first, size = int(network.network_address), network.num_addresses  # type: ignore[attr-defined]
    assert is_forbidden(IPv4Address(first + offset % size))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_address_is_refused(inner: IPv4Address) -> None:
    """Mapped, compatible, translated, NAT64, 6to4 and Teredo forms are refused whatever they carry."""
    value = int(inner)
    forms = (
        value,
        0xFFFF << 32 | value,
        0xFFFF << 48 | value,
        0x64FF9B << 96 | value,
        0x2002 << 112 | value << 80,
        0x20010000 << 96 | value ^ 0xFFFFFFFF,
    )
    assert all(is_forbidden(IPv6Address(form), allow_loopback=True) or form == 1 for form in forms)


@given(st.ip_addresses(v=6))
def test_only_global_unicast_v6_is_ever_allowed(ip: IPv6Address) -> None:
    """RFC 4291: global unicast is delegated from 2000::/3; everything else is something special."""
    assert is_forbidden(ip) or int(ip) >> 125 == 1
