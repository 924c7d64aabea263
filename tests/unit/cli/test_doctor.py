"""`fyre doctor` finds troubles that are really there, and says what to do about each."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time

import pytest
import redis
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from fyretoolkit.settings import DEMO_KEY
from fyretoolkit.store.embedded import EmbeddedRedis
from tests.support.fyre_command import Fyre

WRONG = 1
HAS_GPU = any(Path("/dev").glob("nvidia[0-9]*"))


def findings(*arguments: str, exit_code: int = WRONG) -> dict[str, dict[str, str]]:
    """What `fyre doctor --json` says of each part."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    assert result.exit_code == exit_code, result.output
    found = json.loads(result.stdout)
    assert found["is_well"] is (exit_code == 0)
    return {each["part"]: each for each in found["findings"]}


@pytest.fixture
def lax_redis() -> Iterator[str]:
    """A Redis of somebody's own, set up as Redis comes; its URL."""
    with tempfile.TemporaryDirectory(prefix="fyre-test-") as folder, EmbeddedRedis(Path(folder)) as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendfsync", "everysec")
            client.config_set("maxmemory-policy", "allkeys-lru")
        yield server.url


def test_six_troubles_of_a_machine_and_a_shell(
    fyre: Fyre, tmp_path: Path, lax_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is taken, a disk that is full, a Redis that forgets and evicts, GPUs asked for, a wrong key."""
    config = tmp_path / "platform.yaml"
    config.write_text(
        f"files: {{min_free_bytes: {1 << 60}}}\nstandby: {{shapes: [{{num_gpus: 1}}]}}\n", "utf-8"
    )
    monkeypatch.setenv("FYRE_CONFIG", str(config))
    monkeypatch.setenv("FYRE_REDIS_URL", lax_redis)
    monkeypatch.setenv("FYRE_API_KEY", "sk_live_nobody_secret")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = findings("--home", str(tmp_path / "home"), "--port", str(port))
    troubles = {
        "ports": [f"Port {port} is in use", "use --port"],
        "disk": ["GiB free", "choose another folder with --home"],
        "redis": ["appendfsync is everysec", "set appendfsync always", "set maxmemory-policy noeviction"],
        "key": ["invalid_api_key", "fyre keys create"],
        **({} if HAS_GPU else {"gpu": ["shows none", "set num_gpus to 0"]}),
    }
    for part, sentences in troubles.items():
        assert found[part]["status"] == "wrong", found
        for sentence in sentences:
            assert sentence in found[part]["message"]
    assert {part: found[part]["status"] for part in ("python", "packages", "platform", "clock")} == {
        "python": "ok",
        "packages": "ok",
        "platform": "ok",
        "clock": "ok",
    }
    assert "nobody_secret" not in json.dumps(found)


def test_a_machine_without_troubles(fyre: Fyre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that can be planted here is well; how much memory is free is the machine's own."""
    for name in ("FYRE_CONFIG", "FYRE_REDIS_URL", "FYRE_HOST", "FYRE_MODE"):
        monkeypatch.delenv(name, raising=False)
    home = ["--home", str(tmp_path / "home"), "--port", str(_free_port())]
    result = CliRunner().invoke(app, ["doctor", *home])
    header, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["part", "status", "finding"]
    wrong = {part for part, status, _ in rows if status == "wrong"}
    assert wrong <= ({"memory", "gpu"} if HAS_GPU else {"memory"}), result.stdout
    assert result.exit_code == (WRONG if wrong else 0)
    assert not (tmp_path / "home" / "run").exists(), "nothing is made"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class _Skewed(BaseHTTPRequestHandler):
    """A platform whose clock is an hour behind."""

    def do_GET(self) -> None:
        is_health = self.path == "/readyz"
        body = (
            {"status": "ready", "checks": {"redis": "ok"}} if is_health else {"data": [], "has_more": False}
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"object": "list", **body}).encode())

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time() - 3600, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing is written."""


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The client alone is installed, so that the machine is not looked at."""
    monkeypatch.setattr("fyretoolkit.cli.doctor.has_platform", lambda: False)
    monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
    return monkeypatch


def test_a_clock_that_is_off(bare: pytest.MonkeyPatch) -> None:
    """Beside the platform's, by the Date of its answer."""
    with _served(_Skewed) as url:
        bare.setenv("FYRE_BASE_URL", url)
        found = findings()
    assert found["machine"]["status"] == "unknown"
    assert (found["platform"]["status"], found["key"]["status"]) == ("ok", "ok")
    assert found["clock"]["status"] == "wrong"
    assert "s ahead of the platform's" in found["clock"]["message"]
    assert "NTP" in found["clock"]["message"]


def _plant_in_programs(folder: Path) -> str:
    """A PYTHONPATH on which there is an old package, and a machine with 1 GiB of free memory."""
    old = folder / "redis-4.0.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: redis\nVersion: 4.0.0\n", "utf-8")
    (folder / "sitecustomize.py").write_text(
        "import psutil\nknown = psutil.virtual_memory\n"
        "psutil.virtual_memory = lambda: known()._replace(available=1 << 30)\n",
        "utf-8",
    )
    return os.pathsep.join([str(folder), *sys.path])


def test_the_six_usual_troubles_at_once(
    tmp_path: Path, lax_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports, memory, Redis' durability, the GPU provider, versions, time: each is found and none hides another."""
    config = tmp_path / "platform.yaml"
    config.write_text("standby: {shapes: [{num_gpus: 1}]}\n", "utf-8")
    monkeypatch.setenv("FYRE_CONFIG", str(config))
    monkeypatch.setenv("FYRE_REDIS_URL", lax_redis)
    monkeypatch.setenv("FYRE_API_KEY", DEMO_KEY)
    monkeypatch.setenv("PYTHONPATH", _plant_in_programs(tmp_path / "planted"))
    with socket.create_server(("127.0.0.1", 0)) as taken, _served(_Skewed) as url:
        monkeypatch.setenv("FYRE_BASE_URL", url)
        port = taken.getsockname()[1]
        found = findings("--home", str(tmp_path / "home"), "--port", str(port))
    sentences = {
        "ports": "use --port",
        "memory": "1.0 GiB are free",
        "redis": "set appendfsync always",
        "packages": "redis 4.0.0 is not",
        "clock": "set both by NTP",
        **({} if HAS_GPU else {"gpu": "set num_gpus to 0"}),
    }
    assert {part: each["status"] for part, each in found.items()} == {
        **dict.fromkeys(("python", "settings", "disk", "platform", "key"), "ok"),
        **dict.fromkeys(sentences, "wrong"),
        **({"gpu": found["gpu"]["status"]} if HAS_GPU else {}),
    }
    for part, sentence in sentences.items():
        assert sentence in found[part]["message"], found[part]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1", "ftp://localhost"])
def test_a_platform_that_does_not_answer(bare: pytest.MonkeyPatch, url: str) -> None:
    """Nothing else is asked of it."""
    bare.setenv("FYRE_BASE_URL", url)
    found = findings()
    assert set(found) == {"machine", "platform"}
    assert "fyre up" in found["platform"]["message"]


def test_a_platform_that_is_not_ready(fyre: Fyre, bare: pytest.MonkeyPatch) -> None:
    """Which part is not, in its own words."""
    fyre.bench.control["controller"] = "stalled"
    found = findings()
    assert found["platform"]["status"] == "wrong"
    assert "controller" in found["platform"]["message"]


def test_no_key_at_all(fyre: Fyre, bare: pytest.MonkeyPatch) -> None:
    """Where one comes from."""
    bare.delenv("FYRE_API_KEY")
    assert 'eval "$(fyre env)"' in findings()["key"]["message"]


def test_what_is_well_ends_with_0(fyre: Fyre, bare: pytest.MonkeyPatch) -> None:
    """What is not known is not wrong."""
    assert findings(exit_code=0)["machine"]["status"] == "unknown"


def test_an_installation_that_is_broken_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's last words, instead of a traceback."""
    monkeypatch.setenv("FYRE_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("fyretoolkit.cli.doctor.sys.executable", "/bin/false")
    assert findings()["machine"]["status"] == "wrong"
