"""A whole copy of the platform for the system tests, started as `scripts/up` does, on ports of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import yaml

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import find_ours
from fyretoolkit.launch.state import read_state
from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT

T = TypeVar("T")

_POLL_S = 0.1
_PORTS = range(10_000, 14_000)
"""Below the ports that systems give to connections, and those that platforms choose for what is behind their own."""


def free_port() -> int:
    """A port that nobody listens on now, and that no connection gets as its own meanwhile.

    One that the system chooses is of the range from which every outgoing connection takes its port: a platform that
    binds it seconds later may find it taken.
    """
    for port in secrets.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port is taken")


def until(check: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
    """The first answer of `check` that is not None or False, asked again and again; fails after `timeout_s`."""
    deadline, is_last = time.monotonic() + timeout_s, False
    while not is_last:
        is_last = time.monotonic() >= deadline  # whoever was held up until then looks once more
        if answer := check():
            return answer
        time.sleep(_POLL_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


@dataclass(frozen=True)
class RunningPlatform:
    """One copy: its home, its port, and a client with the demo key."""

    home: Path
    port: int
    environ: dict[str, str]

    @classmethod
    def in_folder(
        cls, folder: Path, overrides: dict[str, Any], plans: dict[str, Any] | None = None
    ) -> RunningPlatform:
        """A copy that is not started yet; `overrides` change sections of the configuration, `plans` are added.

        Reads and writes of the demo key have no limit that a test would meet, so that tests may poll.
        """
        config = yaml.safe_load((PROJECT_ROOT / "configs" / "platform.yaml").read_text("utf-8"))
        for section, values in overrides.items():
            config[section] = {**config[section], **values}
        path = folder / "platform.yaml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        known = yaml.safe_load((PROJECT_ROOT / "configs" / "plans.yaml").read_text("utf-8"))
        known["development"] |= {"read": 1_000_000, "write": 1_000_000}
        plans_path = folder / "plans.yaml"
        plans_path.write_text(yaml.safe_dump({**known, **(plans or {})}), "utf-8")
        environ = {**os.environ, "FYRE_CONFIG": str(path), "FYRE_PLANS": str(plans_path)}
        return cls(folder / "home", free_port(), environ)

    def launch(self, *arguments: str) -> str:
        """Run `fyre up` or `fyre down` for this copy; what it printed."""
        command = [sys.executable, "-m", "fyretoolkit.launch", *arguments, f"--home={self.home}"]
        with subprocess.Popen(
            command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                output, errors = running.communicate(timeout=900)
            except BaseException:
                running.terminate()  # so that `up` ends the supervisor that it started; killed, it could not
                raise
        assert running.returncode == 0, output + errors + self.logs()
        return output

    def up(self, *arguments: str) -> str:
        """Start it and wait until it is ready."""
        return self.launch("up", "--detach", f"--port={self.port}", *arguments)

    def down(self, *arguments: str) -> str:
        """Stop it."""
        return self.launch("down", *arguments)

    def logs(self) -> str:
        """The ends of its logs, for a failure's message."""
        files = sorted((self.home / "run").glob("*.log"))
        return "".join(f"\n== {path.name}\n{path.read_text('utf-8', 'replace')[-2000:]}" for path in files)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """A client with the demo key."""
        return httpx.Client(base_url=self.url, auth=(DEMO_KEY, ""), timeout=120, trust_env=False)

    def processes(self) -> list[psutil.Process]:
        """Every process of this copy but its supervisor."""
        state = read_state(Home(self.home))
        if state is None:
            return []
        found = []
        for pid in find_ours(state.run_id, state.pid, state.start_ticks):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def titled(self, part: str) -> list[psutil.Process]:
        """The live processes of this copy whose command line, which Ray sets as a title, contains `part`."""
        return [each for each in self.processes() if part in _command_line(each)]

    def kill(self, name: str) -> int:
        """`kill -9` a process of this copy whose command line contains `name`; its pid."""

        def find() -> psutil.Process | None:
            return next(iter(self.titled(name)), None)

        process = until(find, timeout_s=120, what=f"a process {name!r}")
        process.send_signal(signal.SIGKILL)
        return process.pid


def _command_line(process: psutil.Process) -> str:
    """Of a process that may be ending at this moment: nothing then."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def submit(client: httpx.Client, model: str, input_url: str, **fields: Any) -> str:
    """Create a batch job; its id."""
    answer = client.post(f"/batch/{model}", json={"input_url": input_url, **fields})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "queued"
    return str(answer.json()["id"])


def finished(client: httpx.Client, job_id: str, *, timeout_s: float = 400) -> dict[str, Any]:
    """The job once it has ended; its progress never goes back meanwhile."""
    seen = 0

    def ended() -> dict[str, Any] | None:
        nonlocal seen
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        assert job["progress"]["processed"] >= seen
        seen = job["progress"]["processed"]
        return job if job["finished"] else None

    return until(ended, timeout_s=timeout_s, what=f"the end of {job_id}")


def lines(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    """The JSON lines behind an output or errors URL."""
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def deployed(client: httpx.Client, body: dict[str, Any], *, timeout_s: float = 300) -> dict[str, Any]:
    """Create a deployment and wait until it is ready or has failed; the resource."""
    answer = client.post("/deployments", json=body)
    assert answer.status_code == 201, answer.text
    name = answer.json()["id"]

    def settled() -> dict[str, Any] | None:
        deployment: dict[str, Any] = client.get(f"/deployments/{name}").json()
        return deployment if deployment["status"] in ("ready", "failed") else None

    return until(settled, timeout_s=timeout_s, what=f"{name} ready or failed")
