"""`scripts/test` in two processes: what shares a platform stays together, each file whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fyretoolkit.settings import PROJECT_ROOT
from tests.support.workers import OWN, SHARED, company_of

FILES = (
    "tests/contract/conformance/test_a.py",
    "tests/contract/test_b.py",
    "tests/system/own/test_c.py",
    "tests/system/own/test_d.py",
    "tests/system/test_e.py",
    "tests/unit/test_f.py",
    "tests/unit/test_g.py",
)
TEST = """
import os
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number):
    with Path("ran").open("a") as ran:
        print(__file__, os.getpid(), file=ran)
"""
CONFTEST = """
from tests.support.workers import ByPlatform, longest_first

def pytest_xdist_make_scheduler(config, log):
    return ByPlatform(config, log)

def pytest_collection_modifyitems(items):
    longest_first(items)
"""


@pytest.mark.parametrize(
    ("path", "company"),
    [
        ("tests/contract/conformance/test_jobs.py", SHARED),
        ("tests/contract/test_jobs.py", "tests/contract/test_jobs.py"),
        ("tests/system/own/test_gpus.py", OWN),
        ("tests/system/test_batch.py", SHARED),
    ],
)
def test_a_tests_company_is_told_by_its_path(path: str, company: str) -> None:
    """Those of one platform, or those of one file."""
    assert company_of(f"{path}::TestIt::test_this[a::b]") == company


def test_one_worker_runs_all_that_shares_a_platform(tmp_path: Path) -> None:
    """Real workers: every test once, each company in one process."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEST, "utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n2",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
    ]
    environ = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}/platform:{PROJECT_ROOT}"}
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text("utf-8").splitlines()]
    assert len(ran) == 4 * len(FILES)
    workers: dict[str, set[str]] = {}
    for path, pid in ran:
        workers.setdefault(company_of(str(Path(path).relative_to(tmp_path))), set()).add(pid)
    assert len(workers) == 5
    assert {len(pids) for pids in workers.values()} == {1}
    assert workers[SHARED] != workers[OWN]
