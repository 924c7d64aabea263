"""Ports of one copy: a block of its own, below the range from which the kernel hands out ports.

Ray and Serve have fixed defaults (6379, 8265, 8404, 8500, 9101, 30000…) that a second copy on the machine
would collide with, and picking free ports one by one races with the next copy doing so. A block is claimed by
one bound, never listening socket on its first port, which the kernel frees with the process, whoever owns the
other copy.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch.failures import LaunchError

_FIRST, _SIZE, _COUNT = 20_480, 1024, 12
_NAMED = 15
_INGRESS_SPAN = 500


@dataclass(frozen=True, slots=True)
class PortBlock:
    """The ports of one copy, by name; `guard` keeps the block claimed while it is open."""

    base: int
    guard: socket.socket | None = None

    @property
    def gcs(self) -> int:
        """Ray's global control store, the address of the cluster."""
        return self.base + 1

    @property
    def dashboard(self) -> int:
        """Ray's dashboard and REST API (token)."""
        return self.base + 2

    @property
    def agent_http(self) -> int:
        """The dashboard agent's HTTP server."""
        return self.base + 3

    @property
    def agent_grpc(self) -> int:
        """The dashboard agent's gRPC server."""
        return self.base + 4

    @property
    def runtime_env_agent(self) -> int:
        """The runtime environment agent."""
        return self.base + 5

    @property
    def metrics_export(self) -> int:
        """Ray's Prometheus exporter of this node."""
        return self.base + 6

    @property
    def object_manager(self) -> int:
        """Object transfer between nodes."""
        return self.base + 7

    @property
    def node_manager(self) -> int:
        """The raylet."""
        return self.base + 8

    @property
    def haproxy_stats(self) -> int:
        """HAProxy's status page."""
        return self.base + 9

    @property
    def haproxy_metrics(self) -> int:
        """HAProxy's Prometheus exporter."""
        return self.base + 10

    @property
    def fallback_http(self) -> int:
        """Serve's Python proxy, HAProxy's last resort."""
        return self.base + 11

    @property
    def fallback_grpc(self) -> int:
        """The same for gRPC."""
        return self.base + 12

    @property
    def dashboard_metrics(self) -> int:
        """Prometheus exporter of the dashboard process."""
        return self.base + 13

    @property
    def autoscaler_metrics(self) -> int:
        """Prometheus exporter of Ray's cluster autoscaler, if one runs."""
        return self.base + 14

    @property
    def ingress_http(self) -> range:
        """HTTP servers of Serve replicas, one each."""
        return range(self.base + 20, self.base + 20 + _INGRESS_SPAN)

    @property
    def ingress_grpc(self) -> range:
        """gRPC servers of Serve replicas, one each."""
        return range(self.base + 20 + _INGRESS_SPAN, self.base + 20 + 2 * _INGRESS_SPAN)


def claim_block(seed: int, *, http_port: int) -> PortBlock:
    """A free block, searched from the one `seed` points to, so that a copy gets the same ports at every start.

    Raises:
        LaunchError: all blocks are taken.
    """
    for base in _bases(seed):
        if http_port in range(base, base + _SIZE):
            continue
        try:
            guard = _bind(base, reuse=False)
        except OSError:
            continue
        if all(is_free(base + offset) for offset in range(1, _NAMED)):
            return PortBlock(base, guard)
        guard.close()
    last = _FIRST + _SIZE * _COUNT - 1
    raise LaunchError(f"No block of free ports is left between {_FIRST} and {last}: stop another copy first.")


def _bases(seed: int) -> Iterator[int]:
    return (_FIRST + _SIZE * ((seed + step) % _COUNT) for step in range(_COUNT))


def _bind(port: int, *, reuse: bool, host: str = LOOPBACK) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if reuse:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def bind_error(port: int, host: str = LOOPBACK) -> int:
    """Why the port of the loopback interface, or of `host`, cannot be bound, as an errno; 0 if it can be."""
    try:
        _bind(port, reuse=True, host=host).close()
    except OSError as error:
        return error.errno or errno.EADDRINUSE
    return 0


def is_free(port: int) -> bool:
    """Whether nobody listens on the port of the loopback interface (nor on that of all interfaces)."""
    return bind_error(port) == 0


def listener_of(port: int) -> str:
    """Who listens on the port, in words, as far as this user may know."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                break
    return "another process"
