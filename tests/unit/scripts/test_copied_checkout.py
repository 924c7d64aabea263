"""A checkout that was copied or moved with its environment acts on itself, never on the original."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fyretoolkit.launch.paths import PROJECT_ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what `scripts/down` and `scripts/environment` are made of."""
    root = tmp_path / "a copy"
    for name in ("platform", "scripts", "configs"):
        shutil.copytree(PROJECT_ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_ROOT / "pyproject.toml", root)
    return root


def test_down_looks_for_the_copys_own_home(copy: Path) -> None:
    """`down --purge` in a copy removed what the original kept."""
    (copy / ".venv").symlink_to(PROJECT_ROOT / ".venv")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("FYRE_HOME", "PYTHONPATH")
    }
    down = subprocess.run(
        [copy / "scripts/down"], env=environment, capture_output=True, text=True, check=True
    )
    assert down.stdout.strip() == f"No platform is running in {copy.resolve()}/.fyre."


def test_its_environment_is_made_anew(copy: Path, tmp_path: Path) -> None:
    """Its programs and packages name the original by path. Here no Python is found to make another one with."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "cksum", "cut", "dirname", "grep", "rm", "tr"):
        (tools / name).symlink_to(str(shutil.which(name)))
    stamp = copy / ".venv/.fyre-environment"
    (stamp.parent / "bin").mkdir(parents=True)
    (stamp.parent / "bin/python").symlink_to(tools / "cat")
    shutil.copy(PROJECT_ROOT / ".venv/.fyre-environment", stamp)

    def prepare() -> subprocess.CompletedProcess[str]:
        command = [copy / "scripts/environment", "dev"]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)

    assert "was not found" in prepare().stderr
    assert not stamp.parent.exists()

    (stamp.parent / "bin").mkdir(parents=True)
    (stamp.parent / "bin/python").symlink_to(tools / "cat")
    original = (PROJECT_ROOT / ".venv/.fyre-environment").read_text("utf-8")
    stamp.write_text(original.replace(str(PROJECT_ROOT), str(copy.resolve())), "utf-8")
    assert prepare().returncode == 0
