"""`fyre env`: what a shell needs to talk to one running copy, by the API and by Ray's own tools."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from fyretoolkit.cli.calls import NO_ANSWER, end
from fyretoolkit.cli.platform import HomeOption, home_of, read_running, refusal
from fyretoolkit.core.api_keys import DEMO_KEY


def env(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a shell exports to reach the platform of this machine: eval "$(fyre env)".

    For `ray job submit` and ray.init() the addresses and the file of the token; for the API its address and, in
    development mode, the demo key. In production mode the key stays yours to set.
    """
    folder = home_of(home)
    try:
        state = read_running(folder)
    except OSError as error:
        raise refusal(f"Cannot use {error.filename}: {error.strerror}.") from error
    if state is None:
        end(NO_ANSWER, f"No platform is running in {folder}. Start it, or name its folder with --home.")
    variables = variables_of(folder, state)
    if as_json:
        typer.echo(json.dumps(variables, indent=2))
    else:
        for name, value in variables.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
    if "FYRE_API_KEY" not in variables:
        typer.echo("# FYRE_API_KEY is yours to set: production mode has no demo key.", err=True)


def variables_of(home: Path, state: dict[str, Any]) -> dict[str, str]:
    """Name and value, from the state of a copy that runs. The token itself is in none of them."""
    found = {
        "RAY_API_SERVER_ADDRESS": state["dashboard_url"],
        "RAY_ADDRESS": state["ray_address"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "run" / "ray_token"),
        # As the platform has it: without it ray.init() looks for loopback's cluster at the machine's own address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "FYRE_BASE_URL": f"http://localhost:{state['port']}",
    }
    return found | ({"FYRE_API_KEY": DEMO_KEY} if state["mode"] == "development" else {})
