"""`doctor`: what of this machine keeps a platform from starting, or lets it lose what it acknowledged.

Every check is made, whatever the others found, unlike `preflight`, which refuses at the first; where a rule is the same
it is preflight's own. Nothing is changed and nothing started.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
from packaging.requirements import Requirement

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch import preflight
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home, runtime_dir
from fyretoolkit.launch.ports import claim_block
from fyretoolkit.launch.state import RunState, read_state
from fyretoolkit.settings import Settings
from fyretoolkit.store.embedded import MINIMUM_VERSION, configured_url, find_server, server_version, url_of

MINIMUM_DISK_BYTES = 1 << 30
_RUNNING_MEMORY_SHARE = 0.05
"""Ray ends workers of a machine of which less is free (`RAY_memory_usage_threshold`, 0.95)."""
_PACKAGE = "fyretoolkit"
_CUDA = "CUDAExecutionProvider"
_REDIS_TIMEOUT_S = 5.0
_DURABLE = {
    "appendonly": ("yes", "it keeps everything in memory alone"),
    "appendfsync": ("always", "what was acknowledged may be lost with the machine"),
    "maxmemory-policy": ("noeviction", "it removes jobs and keys when its memory is full"),
}
"""What a Redis of one's own must be set to, and what happens else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part; `message` says what to do about what is wrong."""

    part: str
    status: str
    """`ok`, `wrong` or `unknown`."""
    message: str


def examine(home: Home, port: int, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every part of the machine, for a platform with this home and port."""
    state = read_state(home)
    running = state if state is not None and state.is_alive() else None
    if running is not None:  # what `up` was told, which this shell need not know
        environ = {**environ, "FYRE_MODE": running.mode}
    yield _found("python", _python)
    yield _found("packages", lambda: _packages(importlib.metadata.requires, _version))
    yield _found("memory", lambda: _memory(running))
    try:
        settings = preflight.check_settings(environ)
    except LaunchError as error:
        yield Finding("settings", "wrong", str(error))
        return
    yield Finding("settings", "ok", f"{settings.mode} mode")
    yield _found("ports", lambda: _ports(running, home, port, settings.host))
    yield _found("disk", lambda: _disk(home, settings))
    yield _redis(running, environ)
    yield _found("gpu", lambda: _gpu(settings, _gpus_here(), _providers))


def _found(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, "ok", check())
    except LaunchError as error:
        return Finding(part, "wrong", str(error))


def _python() -> str:
    implementation, version = platform.python_implementation(), sys.version_info
    preflight.check_system(platform.system(), implementation, version[:2])
    return f"{implementation} {platform.python_version()}"


def _packages(requires: Callable[[str], list[str] | None], version_of: Callable[[str], str | None]) -> str:
    try:
        requirements = requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LaunchError(f"{_PACKAGE} is not installed here: run scripts/up.") from error
    if unmet := list(unmet_requirements(requirements, version_of)):
        raise LaunchError(
            f"{', '.join(unmet)}: run scripts/up, or pip install --upgrade '{_PACKAGE}[platform]'."
        )
    return f"{_PACKAGE} {version_of(_PACKAGE)} and what it needs"


def unmet_requirements(requirements: Iterable[str], version_of: Callable[[str], str | None]) -> Iterator[str]:
    """What the platform needs and is not there, or not in that version, in words."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "platform"}):
            continue
        version = version_of(requirement.name)
        if version is None:
            yield f"{requirement.name} is missing"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is not {requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory(running: RunState | None) -> str:
    available = preflight.available_memory_bytes()
    if running is None:
        preflight.check_memory(available)
    elif available < preflight.total_memory_bytes() * _RUNNING_MEMORY_SHARE:
        raise LaunchError(
            f"{available / (1 << 20):.0f} MiB are free beside the platform, so Ray ends workers: "
            "delete deployments or use a larger machine."
        )
    return f"{available / (1 << 30):.1f} GiB free"


def _ports(running: RunState | None, home: Home, port: int, host: str) -> str:
    if running is not None:
        return f"{running.port} is this platform's"
    for address in dict.fromkeys((LOOPBACK, host)):
        preflight.check_port(port, address)
    block = claim_block(int(runtime_dir(home.root).name[-8:], 16), http_port=port)
    if block.guard is not None:
        block.guard.close()
    return f"{port} is free, and a block from {block.base}"


def _disk(home: Home, settings: Settings) -> str:
    """Of the home, and of the folder for what does not last."""
    needed = max(MINIMUM_DISK_BYTES, settings.files.min_free_bytes)
    folders = (_existing(home.root), Path(tempfile.gettempdir()))
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise LaunchError(
                f"{folder} has {free / (1 << 30):.1f} GiB free and {needed / (1 << 30):.1f} are needed: without room "
                "Redis ends itself and uploads are refused. Free some, or choose another folder with --home."
            )
    return f"{shutil.disk_usage(folders[0]).free / (1 << 30):.1f} GiB free"


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _redis(running: RunState | None, environ: Mapping[str, str]) -> Finding:
    own = Path(running.runtime_dir) / "redis.sock" if running is not None else None
    if own is not None and own.exists():
        return _durability(url_of(own), "The platform's own Redis")
    url = configured_url(dict(environ))
    if url is not None:
        return _durability(url, "The Redis of FYRE_REDIS_URL")
    try:
        server = find_server()
    except PlatformError as error:
        return Finding("redis", "wrong", error.message)
    version = ".".join(map(str, server_version(server) or ()))
    return Finding("redis", "ok", f"{server.name} {version}, started by up")


def _durability(url: str, name: str) -> Finding:
    """Whether it answers, is new enough, and keeps what it acknowledges. Its URL is not shown: passwords."""
    try:
        with redis.Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            decode_responses=True,
        ) as client:
            version = str(client.info("server")["redis_version"])
            if tuple(map(int, version.split(".")[:2])) < MINIMUM_VERSION:
                return Finding("redis", "wrong", f"{name} is {version}: use 7.0 or newer.")
            found = client.config_get(*_DURABLE)
    except redis.ResponseError as error:
        return Finding("redis", "unknown", f"{name} does not say how it is set up ({error}).")
    except (redis.RedisError, ValueError) as error:
        said = str(error).rstrip(".")
        return Finding(
            "redis", "wrong", f"{name} does not answer: {said}. Start it, or correct FYRE_REDIS_URL."
        )
    wrong = [
        f"{setting} is {found.get(setting)}: {harm}; set {setting} {wanted}"
        for setting, (wanted, harm) in _DURABLE.items()
        if found.get(setting) != wanted
    ]
    if wrong:
        return Finding("redis", "wrong", f"{name}: {'. '.join(wrong)}, with CONFIG SET and in its file.")
    return Finding("redis", "ok", f"{name}, {version}: on disk before it answers")


def _gpus_here() -> int:
    """How many GPUs of NVIDIA's the kernel shows."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _providers() -> list[str]:
    """What ONNX Runtime can run on, in this installation."""
    import onnxruntime

    found: list[str] = onnxruntime.get_available_providers()
    return found


def _gpu(settings: Settings, gpus: int, providers: Callable[[], list[str]]) -> str:
    is_wanted = any(shape.num_gpus > 0 for shape in settings.standby.shapes)
    if not gpus:
        if is_wanted:
            raise LaunchError(
                "standby.shapes asks for GPUs, and this machine shows none: install NVIDIA's driver, "
                "or set num_gpus to 0."
            )
        return "none here, and none asked for"
    if _CUDA not in providers():
        raise LaunchError(
            f"{gpus} GPUs are here, and ONNX Runtime has no CUDA: pip install '{_PACKAGE}[cuda]'."
        )
    if importlib.util.find_spec("nvidia") is None and shutil.which("nvcc") is None:
        raise LaunchError(
            f"{gpus} GPUs are here, and CUDA's libraries are not: pip install '{_PACKAGE}[cuda]'."
        )
    return f"{gpus}, with CUDA"
