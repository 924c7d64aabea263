"""The rules that scripts/check adds to the linters can fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rules() -> ModuleType:
    """scripts/check_rules.py as a module; scripts/ is no package."""
    spec = importlib.util.spec_from_file_location("check_rules", ROOT / "scripts" / "check_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("lines", "is_allowed"), [(60, True), (61, False)])
def test_functions_may_have_sixty_lines(rules: ModuleType, lines: int, is_allowed: bool) -> None:
    """The line of `def` counts, decorators do not."""
    source = "@decorator\ndef f():\n" + "    pass\n" * (lines - 1)
    assert (list(rules.long_functions(source)) == []) is is_allowed


@pytest.mark.parametrize(
    "line",
    [
        "https" + "://packages.example/simple",
        "--index" + "-url x",
        "thing @ git+ssh" + "://host/repository",
        "-i x",
    ],
)
def test_an_address_in_a_lock_is_found(
    rules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Whichever way it got there."""
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    locks = tmp_path / "configs" / "locks"
    locks.mkdir(parents=True)
    lock = locks / "platform.txt"
    lock.write_text(
        "ray==2.60.0 ; python_version < '4' \\\n    --hash=sha256:00\n    # via fyretoolkit (pyproject.toml)\n"
    )
    assert list(rules._locks()) == []
    lock.write_text(lock.read_text() + line + "\n")
    assert {problem.split(": ")[0] for problem in rules._locks()} == {"configs/locks/platform.txt:4"}


def test_an_init_in_the_source_root_is_found(
    rules: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would shadow Python's own `platform`."""
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    (tmp_path / "platform").mkdir()
    assert list(rules._source_root()) == []
    (tmp_path / "platform" / "__init__.py").touch()
    assert len(list(rules._source_root())) == 1
