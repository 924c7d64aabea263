"""`fyre keys`: create, list, rotate and revoke the API keys of an organization, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fyretoolkit.cli.calls import DEFAULT_BASE_URL, MISUSED, NO_ANSWER, REFUSED, call
from fyretoolkit.core.api_keys import DEFAULT_SCOPES
from fyretoolkit.core.organizations import Scope
from fyretoolkit.schemas.api_keys import DEFAULT_OVERLAP_S, MAX_LIFETIME_S, MAX_OVERLAP_S

_PAGE = 100

_HELP = "\n\n".join(
    (
        "API keys of your organization.",
        f"All but `bootstrap` are asked of the platform at FYRE_BASE_URL (default {DEFAULT_BASE_URL}) with the key in "
        "FYRE_API_KEY, which needs the scope admin.",
        f"Exit codes: 0 done; {REFUSED} the platform refused; {MISUSED} the command was not understood, or there is no "
        f"key; {NO_ANSWER} the platform did not answer.",
    )
)

app = typer.Typer(no_args_is_help=True, help=_HELP)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
KeyId = Annotated[str, typer.Argument(help="The id of the key (key_…), as `fyre keys list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE[,SCOPE…]",
            help=f"What it may do, of {', '.join(Scope)}; may be repeated. Default: {', '.join(DEFAULT_SCOPES)}.",
        ),
    ] = None,
    expires_in_s: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_LIFETIME_S, help="Seconds that it works; else until it is revoked."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print it: it is shown this once."""
    body: dict[str, Any] = {"name": name}
    if scope:
        body["scopes"] = _scopes(scope)
    if expires_in_s is not None:
        body["expires_in_s"] = expires_in_s
    _print_new(call("POST", "/api_keys", "api_key", json=body), as_json=as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List all keys, newest first, masked; revoked ones too."""
    found: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        query = {"limit": _PAGE, **({"starting_after": found[-1]["id"]} if found else {})}
        page = call("GET", "/api_keys", "list", params=query)
        found += page["data"]
        has_more = page["has_more"] and bool(page["data"])
    if as_json:
        typer.echo(json.dumps({"object": "list", "data": found, "has_more": False}, indent=2))
    else:
        Console().print(_table(found))


@app.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[
        int, typer.Option(min=0, max=MAX_OVERLAP_S, help="Seconds that the old key goes on working.")
    ] = DEFAULT_OVERLAP_S,
    as_json: JsonOption = False,
) -> None:
    """Put a new key in the place of another and print it: it is shown this once."""
    path = f"/api_keys/{quote(key_id, safe='')}/rotate"
    _print_new(call("POST", path, "api_key", json={"overlap_s": overlap_s}), as_json=as_json)


@app.command()
def revoke(key_id: KeyId, as_json: JsonOption = False) -> None:
    """Revoke a key at once. Repeatable."""
    key = call("DELETE", f"/api_keys/{quote(key_id, safe='')}", "api_key")
    typer.echo(json.dumps(key, indent=2) if as_json else f"{key['masked']} is revoked.")


def _scopes(given: Iterable[str]) -> list[str]:
    """Each scope once: names may be written in one option, divided by commas, or in several."""
    names = dict.fromkeys(name.strip() for text in given for name in text.split(","))
    for name in names:
        if name not in set(Scope):
            raise typer.BadParameter(
                f"{name!r} is no scope. Use some of: {', '.join(Scope)}.", param_hint="--scope"
            )
    return list(names)


def _print_new(key: dict[str, Any], *, as_json: bool) -> None:
    """The key alone on stdout, so that a script can take it; what to do with it on stderr."""
    if as_json:
        typer.echo(json.dumps(key, indent=2))
        return
    typer.echo(key["key"])
    typer.echo(
        f"{key['id']} ({', '.join(key['scopes'])}). Keep the key safe: it is not shown again.", err=True
    )


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for column in ("id", "name", "scopes", "key", "status", "created", "expires"):
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for key in found:
        ends = "".join(key["masked"].partition("****")[1:])
        cells = (
            key["id"], key["name"], " ".join(key["scopes"]), ends, key["status"],
            _day(key["created"]), _day(key["expires_at"]),
        )  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))  # a name is not markup
    return table


def _day(at: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""
