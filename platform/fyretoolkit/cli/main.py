"""The `fyre` command: one file a resource; this one assembles them.

`up`, `down` and `keys bootstrap` run the launcher as a program: the CLI imports nothing of the platform, so that it
can be installed without it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from fyretoolkit.cli import env, keys, platform

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # a key may be among them
    help="FyreToolkit: models behind one HTTP API, on Ray.",
)
app.command()(platform.up)
app.command()(platform.down)
app.command()(platform.status)
app.command()(env.env)
keys.app.command("bootstrap")(platform.bootstrap_key)
app.add_typer(keys.app, name="keys")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        try:
            typer.echo(f"fyre {version('fyretoolkit')}")
        except PackageNotFoundError:
            typer.echo("fyre (not installed: run scripts/up)")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Entry point of the `fyre` script."""
    app()


if __name__ == "__main__":
    main()
