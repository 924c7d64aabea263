"""Where one copy of the platform keeps its things: a home that lasts and a runtime folder that does not.

The home (`FYRE_HOME`) holds what `down` keeps. Sockets, Ray's session folder and temporary files live in a
short folder below the system's temporary one, because a unix socket's path may have 107 bytes (HAProxy: 97,
it appends to it) and a home may lie anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fyretoolkit.launch.failures import LaunchError

PROJECT_ROOT = Path(__file__).resolve().parents[3]
DEFAULT_HOME = PROJECT_ROOT / ".fyre"
DURABLE = ("artifacts", "files", "jobs", "redis", "run")
"""The folders of a home, in the order in which they are removed; what else lies in it is not the platform's."""
# HAProxy's socket is the longest name below: "/h/" + a node id of 56 characters + "/s", then room for its
# ".<pid>.tmp".
_LONGEST_RUNTIME_DIR = 34


@dataclass(frozen=True, slots=True)
class Home:
    """The durable folder of one copy."""

    root: Path

    @property
    def redis_dir(self) -> Path:
        """Redis's append-only file."""
        return self.root / "redis"

    @property
    def run_dir(self) -> Path:
        """State, token, lock and logs of the running copy."""
        return self.root / "run"

    @property
    def state_file(self) -> Path:
        """What is running, as JSON (`launch.state`)."""
        return self.run_dir / "state.json"

    @property
    def events_file(self) -> Path:
        """The stages of the last start, a JSON object a line."""
        return self.run_dir / "events.jsonl"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.run_dir / "supervisor.lock"

    @property
    def token_file(self) -> Path:
        """The Ray token: whoever holds it may run any code as this user."""
        return self.run_dir / "ray_token"

    @property
    def prometheus_targets(self) -> Path:
        """Where Prometheus finds what to scrape: a link to the file that Ray keeps up to date while it runs."""
        return self.run_dir / "prometheus.json"

    def log(self, name: str) -> Path:
        """The log of one process: `supervisor`, `redis`, `ray`, `bootstrap`."""
        return self.run_dir / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders, readable by this user alone.

        Raises:
            LaunchError: the home cannot be written.
        """
        try:
            for folder in (self.root, *(self.root / name for name in DURABLE)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"Cannot write {error.filename}: {error.strerror}. Choose another folder with --home."
            ) from error


def script_for(name: str, home: Path) -> str:
    """A command line that runs a script of this checkout on `home`, from any folder, as it can be typed."""
    script = shlex.quote(str(PROJECT_ROOT / "scripts" / name))
    is_default = home == DEFAULT_HOME and not os.environ.get("FYRE_HOME")
    return script if is_default else f"{script} --home {shlex.quote(str(home))}"


def runtime_dir(home: Path) -> Path:
    """The short folder that belongs to `home`: the same at every call, and another one for every home and user."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    name = f"fyre-{os.getuid()}-{digest}"
    folder = Path(tempfile.gettempdir()) / name
    return folder if len(os.fsencode(folder)) <= _LONGEST_RUNTIME_DIR else Path("/tmp") / name  # noqa: S108


def prepare_runtime_dir(folder: Path) -> None:
    """Make the folder with mode 0700, or check that the existing one is ours: others can write beside it.

    Raises:
        LaunchError: something else is there.
    """
    with contextlib.suppress(
        FileExistsError
    ):  # a file or a dangling link, too: what is there is looked at next
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise LaunchError(
            f"{folder} exists and is not a private folder of this user: remove it and start again."
        )
