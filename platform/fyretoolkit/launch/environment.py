"""The environment of every process of one copy, decided once before Ray starts.

Ray and Serve read most settings from the environment when they are imported, in every process, and `ray
start` hands its own environment down to each of them. So this table is the configuration of Serve; nothing of
it can be changed later.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fyretoolkit.launch.node import Node
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.ports import PortBlock

# A developer's own Ray would otherwise leak into this copy (a token in the environment even wins over the
# token's file; and the switch that leaves CUDA_VISIBLE_DEVICES alone would show every replica all GPUs).
_DROPPED = (
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_REDIS_ADDRESS",
)

_FIXED: Mapping[str, str] = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",  # replicas share the cores; each model says how many threads it wants
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # The switch that Ray has for laptops: the node's address becomes 127.0.0.1, and then GCS, raylet, agents,
    # workers and the replicas' gRPC servers listen there alone. Without it Ray replaces a loopback
    # --node-ip-address and listens everywhere.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_START_HOOK": "fyretoolkit.launch.ray_cli.prepare_node",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ROTATION_MAX_BYTES": str(16 << 20),
    "RAY_ROTATION_BACKUP_COUNT": "2",
    # The fast path of Serve: HAProxy instead of the Python proxy, user code and router on the replica's own loop.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Above what one call may hold: arrays are up to four times as large as their JSON.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 << 20),
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",  # Serve's ten rounds a second are more than deployments need
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.http_edge.middlewares",
    # Ray 2.60 sets CUDA_VISIBLE_DEVICES in a worker that was given a GPU; with this also, to nothing, in one that was
    # not. Source: ray/_private/utils.py, `set_visible_accelerator_ids`.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three failures replace a proxy: 3 s without one instead of 30
    # On a busy machine a proxy's process takes longer to start than the 5 s after which Serve ends it
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 << 10),  # large headers get 431 instead of HAProxy's own 400
    "RAY_SERVE_HAPROXY_LOG_TARGET": "stderr format raw",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",  # above limits.max_timeout_ms
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "75",
}


@dataclass(frozen=True, slots=True)
class Copy:
    """One running copy of the platform: what tells it from another on the same machine."""

    home: Home
    runtime_dir: Path
    run_id: str
    host: str
    port: int
    mode: str
    has_demo: bool
    ports: PortBlock
    redis_url: str
    node: Node = field(default_factory=Node)

    @property
    def haproxy_wrapper(self) -> Path:
        """The executable that Serve starts as HAProxy."""
        return self.runtime_dir / "haproxy"

    @property
    def ray_address(self) -> str:
        """Where drivers connect."""
        return f"127.0.0.1:{self.ports.gcs}"

    @property
    def dashboard_url(self) -> str:
        """Ray's dashboard."""
        return f"http://127.0.0.1:{self.ports.dashboard}"


def platform_environment(parent: Mapping[str, str], copy: Copy) -> dict[str, str]:
    """The environment of the copy's processes: the parent's, less what would mislead Ray, then the copy's own."""
    kept = {name: value for name, value in parent.items() if name not in _DROPPED}
    bin_dir = str(Path(sys.executable).parent)
    kept["PATH"] = f"{bin_dir}:{parent.get('PATH', '')}"  # `ray job submit -- python …` must find this Python
    return {**kept, **_FIXED, **_of_copy(copy), **_ports_of(copy.ports)}


def _of_copy(copy: Copy) -> dict[str, str]:
    haproxy_dir = copy.runtime_dir / "h"
    return {
        "FYRE_HOME": str(copy.home.root),
        "FYRE_HOST": copy.host,
        "FYRE_PORT": str(copy.port),
        "FYRE_MODE": copy.mode,
        "FYRE_DEMO": "1" if copy.has_demo else "0",
        "FYRE_REDIS_URL": copy.redis_url,
        "FYRE_RUN_ID": copy.run_id,
        "FYRE_RUNTIME_DIR": str(copy.runtime_dir),
        "FYRE_DASHBOARD_URL": copy.dashboard_url,
        "TMPDIR": str(copy.runtime_dir / "tmp"),
        "RAY_ADDRESS": copy.ray_address,
        "RAY_API_SERVER_ADDRESS": copy.dashboard_url,
        "RAY_AUTH_TOKEN_PATH": str(copy.home.token_file),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(copy.haproxy_wrapper),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy_dir / "s"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy_dir / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy_dir / "server-state"),
    }


def _ports_of(ports: PortBlock) -> dict[str, str]:
    numbers = {
        "AUTOSCALER_METRIC_PORT": ports.autoscaler_metrics,
        "DASHBOARD_METRIC_PORT": ports.dashboard_metrics,
        "RAY_SERVE_HAPROXY_STATS_PORT": ports.haproxy_stats,
        "RAY_SERVE_HAPROXY_METRICS_PORT": ports.haproxy_metrics,
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": ports.fallback_http,
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": ports.fallback_grpc,
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": ports.ingress_http.start,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": ports.ingress_http.stop - 1,
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": ports.ingress_grpc.start,
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": ports.ingress_grpc.stop - 1,
    }
    return {name: str(number) for name, number in numbers.items()}
