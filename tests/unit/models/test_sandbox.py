"""The fences around a process that opens a stranger's model, tried by one that wants out."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fyretoolkit.models import system_calls
from fyretoolkit.models.landlock import landlock_version
from fyretoolkit.models.sandbox import Fence
from fyretoolkit.settings import PROJECT_ROOT
from tests.support.namespaces import are_namespaces_permitted

NOBODY = 65534
HONEST = {"read_allowed", "compute"}
BY_FILES_ALONE = {"read_passwd", "read_secret", "list_root", "list_beside_allowed"}
"""What only Landlock refuses to a process that may read it."""
CHANGES = {
    "write_allowed",
    "write_secret",
    "write_outside",
    "write_here",
    "make_folder",
    "remove",
    "move",
    "link",
    "cut",
}
CONNECTIONS = {"tcp", "tcp_listen", "udp"}

# A fence that this system lacks cannot hold anything back; what the others hold without it is tested everywhere.
needs_landlock = pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")
needs_namespaces = pytest.mark.skipif(
    not are_namespaces_permitted(), reason="namespaces are not permitted here"
)
as_users = pytest.mark.parametrize(
    "user",
    [
        None,
        pytest.param(
            NOBODY, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
        ),
    ],
    ids=["self", "nobody"],
)


@dataclass(frozen=True, slots=True)
class Report:
    """What the hostile process could do."""

    standing: set[str]
    threads: int
    outcomes: dict[str, str]

    @property
    def done(self) -> set[str]:
        """Its successes."""
        return {name for name, outcome in self.outcomes.items() if outcome == "done"}


def attack(folder: Path, *, user: int | None = None, without: Sequence[Fence] = ()) -> Report:
    """Let it try everything, in an empty folder, from which files of the platform can be reached by their paths."""
    here = folder / "here"
    here.mkdir(mode=0o777)
    secret, allowed = folder / "secret", folder / "allowed"
    for path in (secret, allowed):
        path.write_bytes(b"x")
        path.chmod(0o666)
    for path in (here, folder, *folder.parents[:3]):  # pytest's own are closed to others
        path.chmod(0o777 if path in (here, folder) else 0o755)
    request = {"secret": str(secret), "allowed": str(allowed), "user": user, "without": [*without]}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=here,
        env={"PYTHONPATH": f"{PROJECT_ROOT / 'platform'}:{PROJECT_ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (secret.read_bytes(), allowed.read_bytes()) == (b"x", b"x")
    assert list(here.iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {"here", "secret", "allowed"}
    report = json.loads(done.stdout)
    return Report(set(report["standing"]), report["threads"], report["outcomes"])


@needs_landlock
@needs_namespaces
@as_users
def test_nothing_but_its_own_file_and_computing_is_left(tmp_path: Path, user: int | None) -> None:
    """No other file, no network, process, program, signal, privilege; whether it is root or nobody."""
    report = attack(tmp_path, user=user)
    assert report.standing == {*Fence}
    assert report.threads == 1, "namespaces are for processes of one thread"
    assert report.done == HONEST


@as_users
def test_without_landlock_the_rest_holds(tmp_path: Path, user: int | None) -> None:
    """An older kernel: files that its user may read can be read, and nothing else can be done."""
    report = attack(tmp_path, user=user, without=[Fence.FILES])
    assert Fence.FILES not in report.standing
    assert report.done == HONEST | BY_FILES_ALONE


@needs_landlock
@as_users
def test_without_namespaces_the_rest_holds(tmp_path: Path, user: int | None) -> None:
    """A container that permits none."""
    report = attack(tmp_path, user=user, without=[Fence.NAMESPACES])
    assert report.standing == {Fence.FILES, Fence.SYSTEM_CALLS}
    assert report.done == HONEST


@needs_landlock
@needs_namespaces
@as_users
def test_without_seccomp_files_and_network_are_closed(tmp_path: Path, user: int | None) -> None:
    """A processor whose system calls are not in the table."""
    report = attack(tmp_path, user=user, without=[Fence.SYSTEM_CALLS])
    assert Fence.SYSTEM_CALLS not in report.standing
    assert not report.done & (
        BY_FILES_ALONE | CHANGES | CONNECTIONS | {"exec", "spawn", "signal_parent", "mount"}
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the header is this machine's")
def test_the_numbers_of_system_calls_are_the_kernels() -> None:
    """Against the header that the C library was built with, where there is one; a wrong number allows another call."""
    headers = [*Path("/usr/include").glob("**/asm/unistd_64.h")]
    if not headers:
        pytest.skip("no kernel headers are installed")
    known = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", headers[0].read_text("utf-8")))
    assert {name: numbers[0] for name, numbers in system_calls.PLAIN.items()} == {
        name: int(known[name]) for name in system_calls.PLAIN
    }
