"""How a worker's process begins: as Ray's own program begins it, without importing Ray for that."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray._common.utils import load_class
from ray._private.ray_constants import SETUP_WORKER_FILENAME
from ray._private.runtime_env.context import RuntimeEnvContext
from ray.core.generated.common_pb2 import Language

from fyretoolkit.launch import environment, setup_worker

ARGUMENTS = ["/ray/default_worker.py", "--node-ip-address=127.0.0.1", '--title=it\'s "a" $HOME; ls']
CONTEXTS: list[dict[str, Any]] = [
    {},
    {"py_executable": "/venv/bin/python -m batch.background"},
    {
        "env_vars": {
            "A": "1",
            "B": "${A}2",
            "PATH": "/x:${PATH}",
            "C": "${NOT_THERE_1}-$NOT_THERE",
            "D": "%a ~",
        }
    },
    {"command_prefix": ["cd", "/tmp", "&&"], "py_executable": "/venv/bin/python", "java_jars": ["a.jar"]},
    {"command_prefix": None, "env_vars": None, "py_executable": None, "override_worker_entrypoint": None},
]


def by_ray(context: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    """The shell's command and the environment when Ray's program becomes the worker."""
    found: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        patch.setattr(os, "execvp", lambda _file, args: found.extend(args))
        RuntimeEnvContext.deserialize(context).exec_worker([*ARGUMENTS], Language.PYTHON)
        environment = dict(os.environ)
    assert found[:2] == ["bash", "-c"]
    return found[2], environment


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_worker_begins_as_rays_own_program_begins_it(
    context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command, the same environment."""
    text = json.dumps(context)
    expected = by_ray(text, monkeypatch)
    found: list[str] = []
    monkeypatch.setattr(sys, "argv", [
        "setup_worker.py", ARGUMENTS[0], f"--serialized-runtime-env-context={text}", *ARGUMENTS[1:],
        "--language=PYTHON",
    ])  # fmt: skip
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(os, "execvp", lambda _file, args: found.extend(args))
    setup_worker.main()
    assert found == ["bash", "-c", expected[0]]
    assert dict(os.environ) == expected[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--language=JAVA"],
        ["--language", "PYTHON"],
        [
            "--language=PYTHON",
            '--serialized-runtime-env-context={"override_worker_entrypoint": "/in/container.py"}',
        ],
        ["--language=PYTHON", '--serialized-runtime-env-context={"a_new_field": 1}'],
        ["--language=PYTHON", "--serialized-runtime-env-context={}", "--serialized-runtime-env-context={}"],
        [],
    ],
)
def test_what_is_not_known_is_left_to_ray(arguments: list[str]) -> None:
    """A container's entry point, other languages, fields of later versions."""
    assert setup_worker.command_of([*ARGUMENTS, *arguments], sys.executable) is None


def test_rays_program_knows_no_other_argument() -> None:
    """One that a later version takes from the command line would be handed on to the worker."""
    parser: dict[str, argparse.ArgumentParser] = {}
    exec(compile(setup_worker.rays_own().read_text(), "setup_worker.py", "exec"), parser)  # noqa: S102
    options = {option for action in parser["parser"]._actions for option in action.option_strings}
    assert options == {"-h", "--help", "--serialized-runtime-env-context", "--language"}


def start(*arguments: str) -> str:
    """What a worker's process prints."""
    done = subprocess.run(
        [sys.executable, setup_worker.__file__, *arguments, "--language=PYTHON"],
        capture_output=True, text=True, check=True, timeout=240, env={**os.environ, "OUTER": "around"},
    )  # fmt: skip
    return done.stdout.strip()


def test_the_process_becomes_the_worker(tmp_path: Path) -> None:
    """Told by it: its environment, its arguments, and that it is no child."""
    worker = tmp_path / "a worker.py"
    worker.write_text("import os, sys; print(os.environ['INNER'], sys.argv[1:], os.getppid())")
    context = json.dumps({"env_vars": {"INNER": "in ${OUTER}"}, "py_executable": sys.executable})
    printed = start(str(worker), f"--serialized-runtime-env-context={context}", "--id=1 2")
    assert printed == f"in around ['--id=1 2'] {os.getpid()}"


def test_rays_program_does_what_it_is_left(tmp_path: Path) -> None:
    """An entry point in place of the worker's."""
    worker = tmp_path / "other.py"
    worker.write_text("import sys; print(sys.argv)")
    context = json.dumps({"override_worker_entrypoint": str(worker)})
    assert start("/none.py", f"--serialized-runtime-env-context={context}", "a") == str([str(worker), "a"])


def test_ray_start_is_told_of_it() -> None:
    """By the hook that is configured; and the raylet knows the program by the name of Ray's.

    Otherwise it would start every worker by it: a shell and two interpreters more for one without an environment.
    Source: ray/src/ray/raylet/worker_pool.cc, `kSetupWorkerFilename`.
    """
    parameters = SimpleNamespace(ray_client_server_port=10001, setup_worker_path=None)
    load_class(environment._FIXED["RAY_START_HOOK"])(parameters, True)
    assert parameters.ray_client_server_port is None
    assert parameters.setup_worker_path == setup_worker.__file__
    assert setup_worker.rays_own().name == Path(setup_worker.__file__).name == SETUP_WORKER_FILENAME


def test_no_module_beside_it_hides_one_of_pythons() -> None:
    """A program's folder comes first where Python looks for modules."""
    beside = {path.stem for path in Path(setup_worker.__file__).parent.glob("*.py")}
    assert not beside & sys.stdlib_module_names
