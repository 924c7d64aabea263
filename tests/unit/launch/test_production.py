"""Production mode: what it refuses before anything starts, and the operator's keys, shown once and kept nowhere."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fyretoolkit.core.api_keys import key_id_of
from fyretoolkit.core.exposure import LOOPBACK
from fyretoolkit.launch import commands, operator_keys, preflight
from fyretoolkit.launch.__main__ import main
from fyretoolkit.launch.failures import LaunchError
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import RunState, write_state
from fyretoolkit.settings import load_settings
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store
from fyretoolkit.store.embedded import EmbeddedRedis
from fyretoolkit.store.organizations import OrganizationStore

PUBLIC = "0.0.0.0"


def options(home: Path, **changes: object) -> commands.UpOptions:
    """`up --mode production`."""
    fields = {"home": home, "port": 18_002, "mode": "production", "is_detached": True, "has_demo": False}
    return commands.UpOptions(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_public_listener_without_tls_is_refused_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is made or started, in production and in development mode."""
    home = tmp_path / "home"
    for mode, way_out in (
        ("production", "--tls-terminated (FYRE_TLS_TERMINATED=1)"),
        ("development", "--mode prod"),
    ):
        assert main(["up", f"--home={home}", f"--mode={mode}", f"--host={PUBLIC}"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"FYRE_HOST is {PUBLIC}, which other machines can reach")
        assert way_out in said
        assert said.count("\n") == 1
    assert not home.exists()


def test_the_environment_says_the_same_as_the_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FYRE_HOST, FYRE_TLS_TERMINATED and FYRE_PUBLIC_URL; an option wins."""
    monkeypatch.setenv("FYRE_HOST", PUBLIC)
    with pytest.raises(LaunchError, match="speaks no TLS"):
        preflight.check_settings(commands._environment(options(tmp_path)))
    assert preflight.check_settings(commands._environment(options(tmp_path, host=LOOPBACK))).host == LOOPBACK
    monkeypatch.setenv("FYRE_TLS_TERMINATED", "1")
    monkeypatch.setenv("FYRE_PUBLIC_URL", "https://api.example.com/")
    read = preflight.check_settings(commands._environment(options(tmp_path)))
    assert (read.host, read.is_tls_terminated, read.public_url) == (PUBLIC, True, "https://api.example.com")
    monkeypatch.setenv("FYRE_TLS_TERMINATED", "perhaps")
    with pytest.raises(LaunchError, match="FYRE_TLS_TERMINATED: Input should be a valid boolean"):
        preflight.check_settings(commands._environment(options(tmp_path)))


def test_all_processes_read_what_up_was_told(tmp_path: Path) -> None:
    """The supervisor hands its environment down."""
    told = options(tmp_path, host=PUBLIC, is_tls_terminated=True, public_url="https://api.example.com")
    environment = {**commands._environment(told), "FYRE_HOME": str(tmp_path), "FYRE_REDIS_URL": "unix:///s"}
    read = load_settings(environment)
    assert not read.is_development
    assert (read.host, read.is_tls_terminated, read.public_url) == (PUBLIC, True, "https://api.example.com")


@pytest.mark.parametrize("name", ["FYRE_TEST_CLOCK", "FYRE_BOOTSTRAP_MODULE", "FYRE_FAILPOINT"])
def test_switches_for_tests_are_refused_by_name(name: str) -> None:
    """Left in a shell, they would weaken a production platform unseen; an empty one is none."""
    preflight.check_no_test_switch({name: "", "FYRE_HOME": "/x"})
    with pytest.raises(LaunchError, match=f"{name}: for tests in development mode alone"):
        preflight.check_no_test_switch({name: "1"})


def test_up_checks_for_switches_in_production_mode_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher's own tests use one."""
    monkeypatch.setenv("FYRE_BOOTSTRAP_MODULE", "tests.support.stub_bootstrap")
    monkeypatch.setattr(preflight, "check_memory", lambda _: None)
    monkeypatch.setattr(preflight, "check_port", lambda *_: None)
    for mode in ("development", "production"):
        environment = commands._environment(options(tmp_path, mode=mode))
        read = preflight.check_settings(environment)
        if mode == "development":
            preflight.check_all(read, environment)
        else:
            with pytest.raises(LaunchError, match="FYRE_BOOTSTRAP_MODULE"):
                preflight.check_all(read, environment)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    """192.0.2.0/24 is documentation's; no machine has it."""
    with pytest.raises(
        LaunchError, match=r"This machine has no address 192\.0\.2\.1: use --host with one of its own"
    ):
        preflight.check_port(18_002, "192.0.2.1")


def test_the_summary_has_no_demo_key_and_names_the_way_to_another_key(tmp_path: Path) -> None:
    """Nor a curl line that would be refused."""
    home = Home(tmp_path / "my home")
    state = RunState(
        "run", 1, 1, "boot", 8000, "production", "/tmp/x", host=PUBLIC, public_url="https://api.example.com"
    )
    shown = commands.summary(home, state, has_demo=True)
    assert "demo_12345" not in shown
    assert "curl" not in shown
    assert f"on {PUBLIC}, port 8000: TLS ends in front of it" in shown
    assert "https://api.example.com" in shown
    assert f"fyre keys bootstrap --home '{home.root}'" in shown


@pytest.fixture
def running(tmp_path: Path, embedded_redis: EmbeddedRedis, redis_url: str) -> Home:
    """A home whose platform runs: this process is its supervisor, the tests' Redis its Redis."""
    home = Home(tmp_path / "home")
    home.prepare()
    own = read_process(os.getpid())
    assert own is not None
    runtime = embedded_redis.socket_path.parent
    write_state(home, RunState("run", own.pid, own.start_ticks, boot_id(), 8000, "production", str(runtime)))
    return home


def key_in(text: str) -> str:
    """The one key that was printed."""
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("sk_live_")]
    return line


def first_key(home: Home, capsys: pytest.CaptureFixture[str]) -> str:
    """What a start prints about the first key."""
    state = operator_keys.read_state(home)
    assert state is not None
    operator_keys.print_first(home, state)
    return capsys.readouterr().out


def test_the_first_start_prints_a_key_and_the_second_none(
    running: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to make another."""
    said = first_key(running, capsys)
    assert key_in(said)
    assert f"If it is lost: {operator_keys.command_for(running)}" in said
    assert first_key(running, capsys) == ""


async def organizations_of(url: str, *keys: str) -> list[tuple[str, str]]:
    """(name, plan) of the organization of each key; they are all operators' keys that work."""
    store = Store(url)
    try:
        found = []
        for key in keys:
            credential = await ApiKeyStore(store).credential(key_id_of(key) or "")
            assert credential is not None
            assert credential.key.status(2e9) == "active"
            assert "operator" in credential.key.scopes
            organization = await OrganizationStore(store).get(credential.key.org)
            assert organization is not None
            found.append((organization.name, organization.plan))
        return found
    finally:
        await store.close()


def test_a_lost_key_is_replaced_in_the_same_organization(
    running: Home, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`admin-key` makes as many as are asked for, also before there is a first one."""
    keys = []
    for _ in range(2):
        assert main(["admin-key", f"--home={running.root}"]) == 0
        keys.append(key_in(capsys.readouterr().out))
    assert first_key(running, capsys) == ""
    assert len(set(keys)) == 2
    assert asyncio.run(organizations_of(redis_url, *keys)) == [("operators", "unlimited")] * 2


def test_only_the_owner_of_a_home_makes_keys_for_it(
    running: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not root either, who would leave files that the owner cannot use."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert main(["admin-key", f"--home={running.root}"]) == 1
    assert f"{running.root} belongs to " in capsys.readouterr().err


def test_without_a_running_platform_no_key_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next step is named."""
    assert main(["admin-key", f"--home={tmp_path}"]) == 1
    assert capsys.readouterr().err.startswith(f"No platform is running in {tmp_path}: start it with ")


def test_a_store_that_does_not_answer_does_not_stop_the_platform(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how to make the key when it does."""
    monkeypatch.delenv("FYRE_REDIS_URL", raising=False)
    home = Home(tmp_path)
    state = RunState("run", 1, 1, "boot", 8000, "production", str(tmp_path / "none"))
    operator_keys.print_first(home, state)
    said = capsys.readouterr().out
    assert "The first key could not be made" in said
    assert "set FYRE_REDIS_URL" in said
    assert operator_keys.command_for(home) in said
