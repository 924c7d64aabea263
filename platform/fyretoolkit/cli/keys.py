"""`fyre keys`: create, list, rotate and revoke the API keys of an organization, over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, get_args

import typer

from fyretoolkit.cli.calls import MISUSED, NO_ANSWER, REFUSED, platform_client
from fyretoolkit.cli.listing import page_size, show_list
from fyretoolkit.cli.output import JsonOption, moment, print_json, say
from fyretoolkit.client import ApiKeyResource, CreatedApiKey
from fyretoolkit.client.asynchronous.api_keys import ScopeName
from fyretoolkit.client.options import DEFAULT_BASE_URL
from fyretoolkit.core.api_keys import DEFAULT_SCOPES
from fyretoolkit.schemas.api_keys import DEFAULT_OVERLAP_S, MAX_LIFETIME_S, MAX_OVERLAP_S

_SCOPES: tuple[ScopeName, ...] = get_args(ScopeName)
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

KeyId = Annotated[str, typer.Argument(help="The id of the key (key_…), as `fyre keys list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE[,SCOPE…]",
            help=f"What it may do, of {', '.join(_SCOPES)}; may be repeated. Default: {', '.join(DEFAULT_SCOPES)}.",
        ),
    ] = None,
    expires_in_s: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_LIFETIME_S, help="Seconds that it works; else until it is revoked."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print it: it is shown this once."""
    scopes = _scopes(scope) if scope else None
    with platform_client() as client:
        key = client.api_keys.create(name, scopes=scopes, expires_in_s=expires_in_s)
    _print_new(key, as_json=as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List all keys, newest first, masked; revoked ones too."""
    with platform_client() as client:
        page = client.api_keys.list(limit=page_size(None))
        columns = ("id", "name", "scopes", "key", "status", "created", "expires")
        show_list(page, columns, _row, limit=None, as_json=as_json)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[
        int, typer.Option(min=0, max=MAX_OVERLAP_S, help="Seconds that the old key goes on working.")
    ] = DEFAULT_OVERLAP_S,
    as_json: JsonOption = False,
) -> None:
    """Put a new key in the place of another and print it: it is shown this once."""
    with platform_client() as client:
        key = client.api_keys.rotate(key_id, overlap_s=overlap_s)
    _print_new(key, as_json=as_json)


@app.command()
def revoke(key_id: KeyId, as_json: JsonOption = False) -> None:
    """Revoke a key at once. Repeatable."""
    with platform_client() as client:
        key = client.api_keys.revoke(key_id)
    if as_json:
        print_json(key)
    else:
        typer.echo(f"{key.masked} is revoked.")


def _scopes(given: Iterable[str]) -> list[ScopeName]:
    """Each scope once: names may be written in one option, divided by commas, or in several."""
    names = dict.fromkeys(name.strip() for text in given for name in text.split(","))
    for name in names:
        if name not in _SCOPES:
            raise typer.BadParameter(
                f"{name!r} is no scope. Use some of: {', '.join(_SCOPES)}.", param_hint="--scope"
            )
    return [scope for name in names for scope in _SCOPES if scope == name]


def _print_new(key: CreatedApiKey, *, as_json: bool) -> None:
    """The key alone on stdout, so that a script can take it; what to do with it on stderr."""
    if as_json:
        print_json(key)
        return
    typer.echo(key.key)
    say(f"{key.id} ({', '.join(key.scopes)}). Keep the key safe: it is not shown again.")


def _row(key: ApiKeyResource) -> tuple[object, ...]:
    ends = "".join(key.masked.partition("****")[1:])
    return (
        key.id, key.name, " ".join(key.scopes), ends, key.status, moment(key.created), moment(key.expires_at),
    )  # fmt: skip
