"""`fyre up`, `fyre down`, `fyre status`, `fyre keys bootstrap`: the platform of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

_CHECKOUT = Path(__file__).resolve().parents[3]
_READY_TIMEOUT_S = 5.0

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of the durable state (default: FYRE_HOME, else .fyre).")
]


def up(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(help="Port of the HTTP API.", envvar="FYRE_PORT")] = 8000,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready.")] = False,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Do not register the demo models.")] = False,
    mode: Annotated[
        str,
        typer.Option(
            help="development (demo key, demo models, local files) or production.", envvar="FYRE_MODE"
        ),
    ] = "development",
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on besides 127.0.0.1; one that other machines reach needs --mode production "
            "and --tls-terminated.",
            envvar="FYRE_HOST",
        ),
    ] = None,
    tls_terminated: Annotated[
        bool, typer.Option("--tls-terminated", help="A TLS proxy stands in front (FYRE_TLS_TERMINATED=1).")
    ] = False,
    public_url: Annotated[
        str | None,
        typer.Option(
            help="Where callers reach it, for links in answers: https://api.example.com.",
            envvar="FYRE_PUBLIC_URL",
        ),
    ] = None,
) -> None:
    """Start the platform on this machine and wait until it is ready.

    In production mode the first start prints the first API key, once.
    """
    flags = {"--detach": detach, "--no-demo": no_demo, "--tls-terminated": tls_terminated}
    values = {"--port": port, "--mode": mode, "--host": host, "--public-url": public_url}
    _launch(
        "up",
        f"--home={home_of(home)}",
        *(f"{name}={value}" for name, value in values.items() if value is not None),
        *(name for name, is_given in flags.items() if is_given),
    )


def down(
    home: HomeOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove models, jobs, deployments and keys too.")
    ] = False,
) -> None:
    """Stop the platform; its state is kept."""
    _launch("down", f"--home={home_of(home)}", *(["--purge"] if purge else []))


def bootstrap_key(home: HomeOption = None) -> None:
    """Make one more operator key for the platform that runs on this machine and print it.

    For who owns its home, when the first key is lost. It carries every scope; shown this once.
    """
    _launch("admin-key", f"--home={home_of(home)}")


def status(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether the platform runs and answers; exit code 0 only if it is ready."""
    try:
        found = read_status(home_of(home))
    except OSError as error:
        raise refusal(f"Cannot use {error.filename}: {error.strerror}.") from error
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        Console().print(_table(found))
    raise typer.Exit(0 if found["is_ready"] else 1)


def home_of(given: Path | None) -> Path:
    """The home that is meant: the one given, else FYRE_HOME's, else this checkout's."""
    try:
        return (given or Path(os.environ.get("FYRE_HOME") or _CHECKOUT / ".fyre")).expanduser().absolute()
    except RuntimeError as error:  # ~name of nobody
        raise refusal(f"There is no user of the name in {given or os.environ.get('FYRE_HOME')}.") from error


def refusal(what: str) -> typer.Exit:
    """The end of a command whose home is of no use."""
    typer.echo(f"{what} Choose another folder with --home.", err=True)
    return typer.Exit(1)


def has_platform() -> bool:
    """Whether this installation can run a platform, and is not the client alone."""
    return importlib.util.find_spec("ray") is not None


def _launch(*arguments: str) -> None:
    if not has_platform():
        typer.echo(
            "This installation has the client alone. Start the platform with scripts/up in a checkout.",
            err=True,
        )
        raise typer.Exit(1)
    process = subprocess.Popen([sys.executable, "-m", "fyretoolkit.launch", *arguments])
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:  # the launcher got it too, and says how it goes on
            continue


def read_status(home: Path) -> dict[str, Any]:
    """What the state file of `home` says, checked against /proc and the API's /readyz."""
    state = _read_state(home)
    is_running = bool(state) and _is_running(state)
    url = f"http://localhost:{state['port']}" if is_running else None
    checks = _readiness(url) if url else None
    return {
        "home": str(home),
        "status": state["status"] if is_running else "stopped",
        "url": url,
        "public_url": (state.get("public_url") or None) if is_running else None,
        "host": state.get("host") if is_running else None,
        "is_ready": checks is not None and checks["status_code"] == 200,
        "readyz": checks,
        "uptime_s": round(time.time() - state["ready_at"]) if is_running and state.get("ready_at") else None,
        "mode": state.get("mode"),
        "dashboard_url": state.get("dashboard_url") if is_running else None,
        "prometheus_targets": str(home / "run" / "prometheus.json") if is_running else None,
        "ray_restarts": state.get("ray_restarts"),
        "redis_restarts": state.get("redis_restarts"),
        "message": state.get("message") or None,
    }


def read_running(home: Path) -> dict[str, Any] | None:
    """The state file of `home`, if its platform runs."""
    state = _read_state(home)
    return state if state and _is_running(state) else None


def _read_state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "run" / "state.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _is_running(state: dict[str, Any]) -> bool:
    """The supervisor's pid is trusted together with its start time: pids are used again."""
    try:
        stat = Path(f"/proc/{state['pid']}/stat").read_text("utf-8", errors="replace")
    except (OSError, KeyError):
        return False
    fields = stat.rpartition(")")[2].split()
    return fields[0] not in "ZX" and int(fields[19]) == state.get("start_ticks")


def _readiness(url: str) -> dict[str, Any]:
    try:
        answer = httpx.get(
            f"{url}/readyz", timeout=_READY_TIMEOUT_S, trust_env=False
        )  # no proxy to this machine
    except httpx.HTTPError as error:
        return {"status_code": None, "body": f"no answer: {type(error).__name__}"}
    try:
        return {"status_code": answer.status_code, "body": answer.json()}
    except ValueError:
        return {"status_code": answer.status_code, "body": answer.text[:200]}


def _table(found: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in found.items():
        if value is not None and name != "readyz":
            table.add_row(name.replace("_", " ").removeprefix("is "), str(value))
    checks = found["readyz"]
    if checks and isinstance(checks["body"], dict):
        for name, value in checks["body"].items():
            table.add_row(f"  {name}", json.dumps(value) if not isinstance(value, str) else value)
    elif checks:
        table.add_row("  /readyz", str(checks["body"]))
    return table
