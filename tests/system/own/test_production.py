"""Production mode, as an operator meets it: over a home that development mode has used, on an address others reach."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest

from fyretoolkit.control.demo import add_demo_key
from fyretoolkit.core.deployments import Deployment
from fyretoolkit.core.ids import new_id
from fyretoolkit.core.lifecycles import DeploymentStatus, ModelStatus, Stage
from fyretoolkit.core.models import Model
from fyretoolkit.core.organizations import PUBLIC_ORG
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from fyretoolkit.settings import DEMO_KEY
from fyretoolkit.store.connection import Store
from fyretoolkit.store.deployments import DeploymentStore
from fyretoolkit.store.embedded import EmbeddedRedis
from fyretoolkit.store.models import ModelStore
from tests.support.platform import RunningPlatform, until

pytestmark = pytest.mark.system

PUBLIC_URL = "https://api.example.com"
EVERYWHERE = {
    "FYRE_MODE": "production",
    "FYRE_HOST": "0.0.0.0",
    "FYRE_TLS_TERMINATED": "1",
    "FYRE_PUBLIC_URL": PUBLIC_URL,
}


@dataclass(frozen=True)
class Production:
    """The running copy, what its first start printed, and the key in that."""

    copy: RunningPlatform
    printed: str

    @property
    def key(self) -> str:
        """The first key."""
        (key,) = keys_in(self.printed)
        return key

    def client(self, key: str) -> httpx.Client:
        """A client with this key."""
        return httpx.Client(base_url=self.copy.url, auth=(key, ""), timeout=60, trust_env=False)


def keys_in(printed: str) -> list[str]:
    """Every API key that a command printed."""
    return [word for word in printed.split() if word.startswith("sk_live_")]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """One copy, started over what development mode left: its key, a demo model, a deployment of it."""
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("production"), {})
    copy = replace(copy, environ={**copy.environ, **EVERYWHERE})
    Home(copy.home).prepare()
    socket_path = tmp_path_factory.mktemp("redis") / "s"
    with EmbeddedRedis(copy.home / "redis", socket_path=socket_path) as redis:
        asyncio.run(leave_demo(redis.url))
    try:
        yield Production(copy, copy.up())
    finally:
        copy.down()
    assert copy.processes() == []


async def leave_demo(redis_url: str) -> None:
    """What `up` in development mode writes, without its artifacts."""
    store = Store(redis_url)
    now = time.time()
    await add_demo_key(store)
    await ModelStore(store).register(
        Model(
            "digits", PUBLIC_ORG, ModelStatus.READY, int(now), new_id("mdl"), "", artifact="0" * 64, spec={}
        )
    )
    deployment = Deployment(
        id=new_id("dep"), org=PUBLIC_ORG, status=DeploymentStatus.PROVISIONING, stage=Stage.FETCHING,
        model="digits", model_uri="models://digits", region="us-east-1", created=int(now), updated=int(now),
        stage_at=now,
    )  # fmt: skip
    await DeploymentStore(store, 60).create(deployment)
    await store.close()


def test_the_first_start_prints_a_key_that_may_do_everything(production: Production) -> None:
    """The only key there is; and the start shows no demo key and no curl line that would be refused."""
    assert DEMO_KEY not in production.printed
    assert "curl" not in production.printed
    with production.client(production.key) as client:
        assert client.get("/models").status_code == 200
        mine = client.get("/organizations").json()["data"]
        assert ("operators", "unlimited") in [(each["name"], each["plan"]) for each in mine]
        made = client.post("/organizations", json={"name": "acme"})
        assert made.status_code == 201, made.text
        assert client.get("/api_keys").json()["data"][-1]["scopes"] == [
            "read", "predict", "write", "admin", "operator",
        ]  # fmt: skip


def test_the_demo_key_is_no_key(production: Production) -> None:
    """Though Redis holds it from development."""
    with production.client(DEMO_KEY) as client:
        answers = [client.get(path) for path in ("/models", "/jobs", "/organizations")]
        answers.append(client.post("/predict/digits", json={"inputs": [[0] * 64]}))
    assert [(each.status_code, each.json()["error"]["code"]) for each in answers] == [
        (401, "invalid_api_key")
    ] * 4


def test_no_demo_model_is_left(production: Production) -> None:
    """Neither in the list, nor to be predicted with, nor as a deployment."""
    with production.client(production.key) as client:
        assert client.get("/models").json()["data"] == []
        assert client.get("/models/digits").status_code == 404

        def is_unknown() -> bool:
            return client.post("/predict/digits", json={"inputs": [[0] * 64]}).status_code == 404

        until(is_unknown, timeout_s=240, what="the demo deployment has drained")
        until(
            lambda: not client.get("/deployments").json()["data"], timeout_s=240, what="no deployment is left"
        )


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "http://localhost:9/m.onnx",
        "https://localhost/m.onnx",
        "https://127.0.0.1/m.onnx",
        "http://example.com/m.onnx",
        "https://169.254.169.254/m.onnx",
    ],
)
def test_no_file_and_no_private_address_is_read(production: Production, url: str) -> None:
    """Nor plain http, whatever egress.development_file_roots says; the answer names what is allowed."""
    body = {"model_uri": url, "region": "us-east-1"}
    with production.client(production.key) as client:
        answer = client.post("/deployments", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "url_not_allowed")
    allowed = answer.json()["error"]["message"].partition("Allowed:")[2]
    assert "https://" in allowed
    assert "localhost" not in allowed
    assert "file://" not in allowed


def test_the_api_alone_listens_for_other_machines(production: Production) -> None:
    """HAProxy's frontend does; its pages, the replicas' servers and Ray's stay on loopback."""
    with httpx.Client(trust_env=False) as client:  # only who listens on every address answers on 127.0.0.2
        assert client.get(f"http://127.0.0.2:{production.copy.port}/healthz").status_code == 200
    listening = {
        connection.laddr
        for process in production.copy.processes()
        for connection in connections_of(process)
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(listening) > 10
    assert {address.port for address in listening if address.ip == "0.0.0.0"} == {production.copy.port}
    configuration = next((runtime_dir(production) / "h").rglob("haproxy.cfg")).read_text("utf-8")
    binds = [line.split()[1] for line in configuration.splitlines() if line.split()[:1] == ["bind"]]
    assert f"0.0.0.0:{production.copy.port}" in binds
    assert len(binds) >= 3
    assert all(bind.startswith("127.0.0.1:") for bind in binds if bind != f"0.0.0.0:{production.copy.port}")


def connections_of(process: psutil.Process) -> list[psutil._common.pconn]:
    """The process's sockets; none if it has ended."""
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []


def runtime_dir(production: Production) -> Path:
    """The copy's sockets, Ray's logs and HAProxy's configuration."""
    state = read_state(Home(production.copy.home))
    assert state is not None
    return Path(state.runtime_dir)


def test_no_secret_is_on_the_disk(production: Production) -> None:
    """Not in Redis's file, a log, an event or a state, nor as the header that carried it."""
    another = production.copy.launch("admin-key")
    keys = [production.key, *keys_in(another)]
    assert len(keys) == 2
    for key in keys:
        with production.client(key) as client:
            assert client.get("/models").status_code == 200
            assert client.get(f"/nope?key={key}").status_code == 404
    secrets = [key.split("_", 4)[4].encode() for key in keys]
    secrets += [base64.b64encode(f"{key}:".encode()) for key in keys]
    searched = 0
    for folder in (production.copy.home, runtime_dir(production)):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                searched += len(content)
                assert not [secret for secret in secrets if secret in content], path
    assert searched > 100_000


def test_a_second_start_prints_no_key_and_the_first_one_still_works(production: Production) -> None:
    """It is printed once; a lost one is replaced by `fyre keys bootstrap`."""
    assert "fyre keys bootstrap" in production.printed
    production.copy.down()
    assert keys_in(production.copy.up()) == []
    with production.client(production.key) as client:
        assert client.get("/models").status_code == 200
