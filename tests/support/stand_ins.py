"""Programs that documents start and that stay: what is called by their names while documents run.

Prometheus is the real one where it is installed, started as the document says but for its port, until it is ready.
Grafana comes from no package index and a container needs a daemon, so what they are given is looked at instead: whether
the configuration is where it says, and every variable that the configuration names is set.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.platform import free_port, until

_REAL_PATH = "FYRE_REAL_PATH"
_VARIABLE = re.compile(r"\$__env\{(\w+)\}")


def put_before(path: str, folder: Path) -> dict[str, str]:
    """The environment in which the programs are found before those of `path`; they lie in `folder`."""
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH='{PROJECT_ROOT}' exec '{sys.executable}' -m {__name__} {name} \"$@\"\n",
            "utf-8",
        )
        program.chmod(0o700)
    return {"PATH": f"{folder}:{path}", _REAL_PATH: path}


def prometheus(arguments: list[str]) -> None:
    """Prometheus takes its options and its configuration."""
    options = _options(arguments)
    assert set(options) == {"--config.file", "--storage.tsdb.path", "--web.listen-address"}
    assert Path(options["--config.file"]).is_file()
    real = shutil.which("prometheus", path=os.environ[_REAL_PATH])
    if real is None:
        return
    address = options["--web.listen-address"] = f"127.0.0.1:{free_port()}"
    running = subprocess.Popen([real, *(f"{name}={value}" for name, value in options.items())])

    def is_ready() -> bool:
        assert running.poll() is None, "it ended"
        try:
            return httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_ready, timeout_s=120, what="Prometheus is ready")
    finally:
        running.terminate()
        running.wait(60)


def grafana(arguments: list[str]) -> None:
    """Grafana finds its configuration, and what that names."""
    command, *rest = arguments
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    assert (command, set(options)) == ("server", {"--homepath", "--config"})
    _check_configuration(Path(options["--config"]), dict(os.environ))


def docker(arguments: list[str]) -> None:
    """The container finds the configuration in what is mounted into it, and what that names in its environment."""
    at = arguments.index("grafana/grafana")
    given = list(zip(arguments[1:at:2], arguments[2:at:2], strict=True))
    assert arguments[0] == "run"
    assert {name for name, _ in given} == {"--network", "-e", "-v"}
    environment = dict(value.split("=", 1) for name, value in given if name == "-e")
    (source, inside, rights) = next(value for name, value in given if name == "-v").split(":")
    assert rights == "ro"
    config = _options(arguments[at + 1 :])["--config"]
    here = {name: value.replace(inside, source) for name, value in environment.items()}
    _check_configuration(Path(config.replace(inside, source)), here)


def _options(arguments: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in arguments)}


def _check_configuration(path: Path, environment: dict[str, str]) -> None:
    names = set(_VARIABLE.findall(path.read_text("utf-8")))
    assert names == {"FYRE_GRAFANA", "FYRE_GRAFANA_DATA"}
    assert names <= set(environment)
    assert Path(environment["FYRE_GRAFANA"]) == path.resolve().parent
    assert (Path(environment["FYRE_GRAFANA"]) / "provisioning" / "dashboards").is_dir()
    assert Path(environment["FYRE_GRAFANA_DATA"]).is_absolute()


PROGRAMS = {each.__name__: each for each in (prometheus, grafana, docker)}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2:])
