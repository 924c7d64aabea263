"""What the raylet runs first in a worker that has a runtime environment; Ray's program of that name imports Ray for it.

That applies the environment and becomes the worker's own interpreter, which then imports Ray once more: 0.4 s of a core
for each process, before any niceness is set. So a job's next runner, whose worker is behind real time
from its first instruction on, first took a core from the replicas (decisions/0015). This does the same with Python's
standard library alone; what it does not know, it leaves to Ray's program.

Source: ray/_private/workers/setup_worker.py and ray/_private/runtime_env/context.py, Ray 2.60.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
_PYTHON = "PYTHON"
_KNOWN = frozenset({"command_prefix", "env_vars", "py_executable", "override_worker_entrypoint", "java_jars"})


def command_of(arguments: list[str], executable: str) -> tuple[str, dict[str, str]] | None:
    """The shell's command that becomes the worker, and the variables it is given; None: Ray's own program must tell.

    `executable` is the interpreter where the runtime environment names none.
    """
    contexts = [each for each in arguments if each.startswith(_CONTEXT)]
    languages = [each for each in arguments if each.startswith(_LANGUAGE)]
    if len(contexts) > 1 or languages != [_LANGUAGE + _PYTHON] or sys.platform != "linux":
        return None
    context = json.loads("".join(contexts).removeprefix(_CONTEXT) or "{}")
    if not _KNOWN.issuperset(context) or context.get("override_worker_entrypoint"):
        return None
    rest = [shlex.quote(each) for each in arguments if each not in (*contexts, *languages)]
    words = [
        *(context.get("command_prefix") or []),
        "exec",
        context.get("py_executable") or executable,
        *rest,
    ]
    return " ".join(words), context.get("env_vars") or {}


def expand(value: str) -> str:
    """A variable's value with the others that it names; one that is not there is empty."""
    return re.sub(r"\$\{[A-Z0-9_]+\}", "", os.path.expandvars(value))


def rays_own() -> Path:
    """Ray's program."""
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ray is not installed")
    return Path(spec.origin).parent / "_private/workers/setup_worker.py"


def main() -> None:
    """Become the worker."""
    found = command_of(sys.argv[1:], sys.executable)
    if found is None:
        import runpy

        sys.path[0] = str(rays_own().parent)
        runpy.run_path(str(rays_own()), run_name="__main__")
        return
    command, variables = found
    for name, value in variables.items():
        os.environ[name] = expand(value)
    os.execvp("bash", ["bash", "-c", command])  # noqa: S606 - as Ray does


if __name__ == "__main__":
    main()
