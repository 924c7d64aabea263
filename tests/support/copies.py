"""Copies of the product with one line changed, and what the conformance tests say to each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.state import read_state
from fyretoolkit.settings import PROJECT_ROOT
from fyretoolkit.store.embedded import url_of
from tests.support.platform import RunningPlatform, free_port, until

FOLDERS = ("platform", "serve_apps", "batch", "configs", "tests")
CONFORMANCE = Path("tests", "contract", "conformance")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S+?/(test_\w+\.py)(?:::(\w+))?", re.MULTILINE)
_TESTS_S = 900


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise broken by one replacement of text in one file of the product.

    `tests` are the modules of the section it belongs to, without `test_` and `.py`.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def copy_product(folder: Path) -> Path:
    """A copy of the product and its tests in `folder`, to be changed."""
    for name in FOLDERS:
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=_NOT_COPIED)
    shutil.copy(PROJECT_ROOT / "pyproject.toml", folder)
    return folder


def changed(root: Path, violation: Violation) -> str:
    """The text of the violated file under `root`.

    Raises:
        AssertionError: the product no longer has what is to be replaced, or has it twice.
    """
    text = (root / violation.file).read_text("utf-8")
    found = text.count(violation.old)
    assert found == 1, (
        f"{violation.name}: its text is {found} times in {violation.file}, not once: correct it"
    )
    return text.replace(violation.old, violation.new)


@contextmanager
def violated(copy: Path, violation: Violation) -> Iterator[None]:
    """The copy with the violation in it, and without it afterwards."""
    path = copy / violation.file
    text = path.read_text("utf-8")
    path.write_text(changed(copy, violation), "utf-8")
    try:
        yield
    finally:
        path.write_text(text, "utf-8")


class Examiner:
    """Runs conformance tests against an ingress of a copy, beside a running platform."""

    def __init__(self, platform: RunningPlatform, copy: Path, *, window_s: float) -> None:
        state = read_state(Home(platform.home))
        assert state is not None
        self.copy = copy
        self.output = ""
        """What the last tests printed."""
        self._port = free_port()  # one for all, as the links of remembered jobs lead there
        self._environ = {
            **platform.environ,
            "PYTHONPATH": f"{copy / 'platform'}{os.pathsep}{copy}",
            "PYTHONDONTWRITEBYTECODE": "1",  # a text of the same length within a second would pass for compiled
            "FYRE_COPY": str(copy),
            "FYRE_HOME": str(platform.home),
            "FYRE_REDIS_URL": url_of(Path(state.runtime_dir) / "redis.sock"),
            "FYRE_CONFORMANCE_URL": f"http://127.0.0.1:{self._port}",
            "FYRE_CONFORMANCE_WINDOW_S": str(window_s),
            "FYRE_CONFORMANCE_CACHE": str(copy / "made.json"),
        }

    def failures(self, modules: Sequence[str], *options: str) -> list[str]:
        """The tests of these modules that fail as the copy is now, as `module::test`."""
        with self._ingress():
            paths = [str(CONFORMANCE / f"test_{name}.py") for name in modules]
            done = self._run("-m", "pytest", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider", "-m", "not front",
                             *options, *paths)  # fmt: skip
        self.output = done.stdout
        found = [f"{module}::{test}" for module, test in _FAILED.findall(done.stdout)]
        assert done.returncode == (1 if found else 0), done.stdout[-4000:] + done.stderr[-4000:]
        return list(dict.fromkeys(found))

    @contextmanager
    def _ingress(self) -> Iterator[None]:
        log = self.copy / "ingress.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "tests.support.local_ingress", str(self._port)]
            process = subprocess.Popen(
                command, cwd=self.copy, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            until(lambda: _is_ready(process, self._environ), timeout_s=240, what="an ingress of the copy")
            yield
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text('utf-8')[-2000:]}") from error
        finally:
            process.terminate()
            process.wait(60)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.copy,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=_TESTS_S,
            check=False,
        )


def _is_ready(process: subprocess.Popen[bytes], environ: Mapping[str, str]) -> bool:
    assert process.poll() is None, "it ended"
    try:
        return httpx.get(f"{environ['FYRE_CONFORMANCE_URL']}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
