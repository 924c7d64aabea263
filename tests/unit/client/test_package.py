"""What the client is made of and brings along: generated twin, complete types, few requirements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

from fyretoolkit.api.guides import FOLDER, INDEX, PAGES
from fyretoolkit.settings import PROJECT_ROOT
from scripts.twins import synchronous_modules, without_async

_CLIENT = PROJECT_ROOT / "platform" / "fyretoolkit" / "client"
_BASE = {"httpcore", "httpx", "orjson", "pydantic", "rich", "standardwebhooks", "typer"}
_HEAVY = ("ray", "onnxruntime", "numpy", "pyarrow", "pandas", "redis", "fastapi", "yaml", "uvicorn", "grpc")


def test_the_synchronous_client_is_what_the_generator_makes() -> None:
    """Module by module, and none is left of a source that is gone. `scripts/describe` writes them anew."""
    made = synchronous_modules(_CLIENT)
    assert {path: path.read_text("utf-8") for path in (_CLIENT / "synchronous").glob("*.py")} == made


def test_what_the_generator_does() -> None:
    source = '''async def f(client: AsyncClient) -> AsyncIterator[int]:
    """Of an AsyncClient: await it."""
    async with client.open() as answer, other:
        async for each in answer.aiter_raw():
            x = [y async for y in await g(await h(each))]
            yield x + (
                await async_sleep(1)
            )
'''
    assert (
        without_async(source)
        == '''def f(client: Client) -> Iterator[int]:
    """Of an Client: it."""
    with client.open() as answer, other:
        for each in answer.iter_raw():
            x = [y for y in g(h(each))]
            yield x + (
                sleep(1)
            )
'''
    )


def test_the_base_install_brings_neither_ray_nor_onnxruntime(tmp_path: Path) -> None:
    """By the metadata of a wheel that is built here; its types are marked, and the guides are there."""
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(built, cwd=PROJECT_ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        required = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    base = {each.split(">")[0].split("[")[0].strip() for each in required if "extra ==" not in each}
    assert base == _BASE
    assert {"fyretoolkit/py.typed", "fyretoolkit/client/synchronous/client.py"} <= set(names)
    served = [FOLDER / "guides.css", INDEX, *(path for _, path in PAGES.values())]
    assert {path.relative_to(PROJECT_ROOT / "platform").as_posix() for path in served} <= set(names)


def test_importing_the_client_loads_nothing_heavy() -> None:
    """And importing the package does not even load the client."""
    program = (
        "import json, sys, fyretoolkit; early = 'httpx' in sys.modules;"
        "from fyretoolkit import AsyncClient, Client; Client('sk_live_a_b').close();"
        "print(json.dumps([early, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT / "platform")},
        check=True,
        capture_output=True,
        timeout=300,
    )
    early, loaded = json.loads(done.stdout)
    assert early is False
    assert [name for name in _HEAVY if name in loaded] == []


def test_every_public_name_of_the_client_has_a_complete_type(tmp_path: Path) -> None:
    """As pyright judges a package that says of itself that it is typed.

    What others left open in types of theirs that we take or inherit is passed over: an answer is a pydantic model and
    `http_client` is httpx's, and pyright finds neither of those packages complete.
    """
    binaries = Path(sys.executable).parent  # of the environment's lock: pyright is there
    command = [str(binaries / "pyright"), "--verifytypes", "fyretoolkit.client"]
    done = subprocess.run(
        [*command, "--ignoreexternal", "--outputjson"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT / "platform"),
            # with --verifytypes it asks the first Python there what is installed, and takes no --pythonpath
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        timeout=300,
        check=False,
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    unknown = [each["name"] for each in report["symbols"] if each["isExported"] and not each["isTypeKnown"]]
    assert unknown == []
    assert report["completenessScore"] == 1
    assert report["exportedSymbolCounts"]["withKnownType"] > 500
