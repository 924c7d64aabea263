"""What must hold before anything is started; each refusal is one sentence with the way out."""

from __future__ import annotations

import errno
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import yaml
from pydantic import ValidationError

from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.node import node_from
from fyretoolkit.launch.ports import bind_error, listener_of
from fyretoolkit.settings import PROJECT_ROOT, Settings, load_settings

MINIMUM_MEMORY_BYTES = 5 << 29  # 2.5 GiB: Ray's own processes, Serve, the ingress and four small models
_CGROUP = Path("/sys/fs/cgroup")
_TEST_SWITCHES = ("FYRE_TEST_", "FYRE_BOOTSTRAP_MODULE", "FYRE_FAILPOINT")
_VARIABLES = {"mode": "FYRE_MODE", "is_tls_terminated": "FYRE_TLS_TERMINATED"}
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)


def check_all(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse to start where it cannot work. `check_settings` has read the settings from `environ`.

    Raises:
        LaunchError: with what to do about it.
    """
    check_system(platform.system(), platform.python_implementation(), sys.version_info[:2])
    if not settings.is_development:
        check_no_test_switch(environ)
    node_from(environ)
    for host in dict.fromkeys((LOOPBACK, settings.host)):
        check_port(settings.port, host)
    check_memory(available_memory_bytes())


def check_system(system: str, implementation: str, version: tuple[int, int]) -> None:
    """Linux and CPython 3.11 or 3.12.

    Raises:
        LaunchError: this is something else.
    """
    if system != "Linux":
        raise LaunchError(
            f"The platform runs on Linux, and this is {system}: use a Linux machine, container or WSL 2."
        )
    if implementation != "CPython" or version not in ((3, 11), (3, 12)):
        found = f"{implementation} {version[0]}.{version[1]}"
        raise LaunchError(
            f"CPython 3.11 or 3.12 is needed, and this is {found}: install one of them and run scripts/up again."
        )


def check_no_test_switch(environ: Mapping[str, str]) -> None:
    """Nothing that exists for tests is switched on.

    Raises:
        LaunchError: naming what is set.
    """
    found = sorted(name for name, value in environ.items() if value and name.startswith(_TEST_SWITCHES))
    if found:
        raise LaunchError(
            f"{', '.join(found)}: for tests in development mode alone. Unset it and start again."
        )


def check_settings(environ: Mapping[str, str]) -> Settings:
    """What every process of the platform will read as its settings (home and Redis aside).

    Raises:
        LaunchError: with the file, the key, and what does not fit.
    """
    path = Path(environ.get("FYRE_CONFIG") or PROJECT_ROOT / "configs" / "platform.yaml")
    try:
        return load_settings({"FYRE_HOME": "/", "FYRE_REDIS_URL": "unix:///", **environ})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error" and not key.startswith("regions"):  # a sentence of `core.exposure`
            raise LaunchError(problem) from error
        file = (
            environ.get("FYRE_PLANS") or PROJECT_ROOT / "configs" / "plans.yaml" if "plans" in key else path
        )
        where = _VARIABLES.get(key) or f"{file}: {key}"
        raise LaunchError(f"{where}: {problem}. Correct it and run scripts/up again.") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise LaunchError(f"{path} is not a YAML mapping: {problem}. Correct it.") from error
    except OSError as error:
        raise LaunchError(
            f"Cannot read {path}: {error.strerror}. Correct FYRE_CONFIG, or leave it out."
        ) from error


def check_memory(available_bytes: int) -> None:
    """At least 2.5 GiB.

    Raises:
        LaunchError: there is less.
    """
    if available_bytes < MINIMUM_MEMORY_BYTES:
        needed, free = MINIMUM_MEMORY_BYTES / (1 << 30), available_bytes / (1 << 30)
        raise LaunchError(
            f"The platform needs {needed:.1f} GiB of free memory, and {free:.1f} GiB are free: "
            "stop something or use a larger machine."
        )


def check_port(port: int, host: str = LOOPBACK) -> None:
    """The port of the API is free and may be bound.

    Raises:
        LaunchError: it is in use, or out of range.
    """
    if not 1 <= port <= 65_535:
        raise LaunchError(f"Port {port} does not exist: use --port with a number from 1 to 65535.")
    refusal = bind_error(port, host)
    if refusal in _NO_SUCH_ADDRESS:
        raise LaunchError(
            f"This machine has no address {host}: use --host with one of its own, or 0.0.0.0 for all of them."
        )
    if refusal == errno.EACCES:
        raise LaunchError(f"Port {port} may only be bound by root: use --port with a number from 1024.")
    if refusal:
        raise LaunchError(
            f"Port {port} is in use by {listener_of(port)}: stop it or use --port with another number."
        )


def available_memory_bytes() -> int:
    """Free memory of the machine, or what this process's control group still allows if that is less."""
    available = psutil.virtual_memory().available
    try:
        limit = (_CGROUP / "memory.max").read_text("ascii").strip()
        used = int((_CGROUP / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no control group version 2, or the root one
        return available
    return available if limit == "max" else min(available, int(limit) - used)


def total_memory_bytes() -> int:
    """Memory of the machine, or what this process's control group may have if that is less."""
    total = psutil.virtual_memory().total
    try:
        limit = (_CGROUP / "memory.max").read_text("ascii").strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))
