"""Running a document of the repository against a platform."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from fyretoolkit.settings import DEMO_KEY, PROJECT_ROOT
from tests.support.code_blocks import Block, defects, documents, missing, script_of
from tests.support.platform import RunningPlatform, free_port
from tests.support.stand_ins import put_before

_TIMEOUT_S = 600
_REAL_HOMES = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config"}
_ENDS_THE_PLATFORM = "./scripts/down"


def documents_that_end_it(*, is_wanted: bool) -> list[str]:
    """The documents whose commands end the platform, and so need one of their own; or all the others."""
    return [name for name, inside in documents().items() if is_wanted is any(map(_ends_it, inside))]


def _ends_it(block: Block) -> bool:
    return block.language == "sh" and _ENDS_THE_PLATFORM in block.text


def carry_out(document: str, platform: RunningPlatform, folder: Path) -> str:
    """Run a document's blocks; what they printed, which is what the document says."""
    inside = documents()[document]
    assert defects(inside) == []
    receiver = free_port()
    places = {
        "localhost:8000": f"localhost:{platform.port}",
        "127.0.0.1:9000": f"127.0.0.1:{receiver}",
        ".fyre/": f"{platform.home}/",
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **platform.environ,
        **put_before(path, folder / "bin"),
        "no_proxy": "*",
        "HOME": str(folder),
        # Programs find their caches and settings, such as a package index, where they are.
        **{name: os.environ.get(name) or str(Path.home() / place) for name, place in _REAL_HOMES.items()},
        "FYRE_BASE_URL": platform.url,
        "FYRE_HOME": str(platform.home),
        "FYRE_PORT": str(platform.port),
        "PORT": str(receiver),
    }
    if not any(each.language == "sh" for each in inside):
        environment["FYRE_API_KEY"] = DEMO_KEY  # a document with a shell says where its key comes from
    (folder / "script.sh").write_text(script_of(inside, folder, places), "utf-8")
    code, printed, said = _run(folder / "script.sh", environment)
    assert code == 0, f"{printed}\n{said}"
    assert missing(inside, printed) == [], printed
    return printed


def _run(script: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; what the shell left running, if it is no daemon, ends with it."""
    printed, said = script.with_suffix(".out"), script.with_suffix(".err")
    with printed.open("wb") as out, said.open("wb") as err:
        running = subprocess.Popen(
            ["sh", "-eux", str(script)],
            cwd=PROJECT_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        with suppress(subprocess.TimeoutExpired):
            running.wait(_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        code = running.wait()
    return code, printed.read_text("utf-8"), said.read_text("utf-8")
