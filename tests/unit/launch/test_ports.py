"""Two copies on one machine never get the same ports."""

from __future__ import annotations

import socket

import pytest

from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.ports import PortBlock, claim_block, is_free, listener_of


def all_ports(block: PortBlock) -> list[int]:
    """Every port of a block, as often as it is handed out."""
    named = [
        value for name in dir(PortBlock) if isinstance(value := getattr(block, name), int) and name != "base"
    ]
    return [block.base, *named, *block.ingress_http, *block.ingress_grpc]


def close(*blocks: PortBlock) -> None:
    """Let go of the claims."""
    for block in blocks:
        assert block.guard is not None
        block.guard.close()


def test_a_claimed_block_is_not_given_again() -> None:
    """The second claim with the same seed gets another block, with no port in common."""
    first = claim_block(3, http_port=8000)
    second = claim_block(3, http_port=8000)
    try:
        assert not set(all_ports(first)) & set(all_ports(second))
    finally:
        close(first, second)


def test_the_same_copy_gets_the_same_ports_again() -> None:
    """A dashboard's bookmark survives a restart."""
    first = claim_block(5, http_port=8000)
    close(first)
    again = claim_block(5, http_port=8000)
    close(again)
    assert again.base == first.base


def test_no_port_of_a_block_is_used_twice() -> None:
    """Neither within the block nor beyond the range that the kernel leaves alone (32768 and up by default)."""
    ports = all_ports(PortBlock(31_744))
    assert len(ports) == len(set(ports))
    assert max(ports) < 32_768


def test_a_block_with_a_busy_port_is_skipped() -> None:
    """Somebody listens on one of its named ports."""
    free = claim_block(7, http_port=8000)
    close(free)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free.haproxy_stats))
        listener.listen()
        other = claim_block(7, http_port=8000)
        close(other)
    assert other.base != free.base


def test_the_block_around_the_http_port_is_skipped() -> None:
    """An operator may choose a port for the API that lies in a block."""
    free = claim_block(9, http_port=8000)
    close(free)
    other = claim_block(9, http_port=free.base + 100)
    close(other)
    assert other.base != free.base


def test_when_all_blocks_are_taken_it_says_so() -> None:
    """Twelve copies at most."""
    claimed: list[PortBlock] = []

    def claim_them_all() -> None:
        for _ in range(13):
            claimed.append(claim_block(0, http_port=8000))

    with pytest.raises(LaunchError, match="stop another copy"):
        claim_them_all()
    close(*claimed)
    assert claimed


def test_a_listener_is_named() -> None:
    """The message about a port in use says by whom."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert "pid" in listener_of(port)
    assert is_free(port)
