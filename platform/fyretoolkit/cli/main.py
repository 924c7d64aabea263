"""The `fyre` command: one file a resource; this one assembles them.

`up`, `down`, `keys bootstrap` and what `doctor` sees of the machine run the launcher as a program: the CLI imports
nothing of the platform, so that it can be installed without it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from fyretoolkit.cli import (
    batch,
    deployments,
    doctor,
    env,
    files,
    jobs,
    keys,
    logs,
    metrics,
    models,
    nodes,
    platform,
    predict,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a key may be among them
    help="FyreToolkit: models behind one HTTP API, on Ray.",
    epilog="Exit codes: 0 done; 1 refused or failed; 2 misused; 3 no answer; 4 the job is canceled; 130 interrupted.",
)
_USE, _RUN = "The API", "This machine"
app.command(rich_help_panel=_USE)(predict.predict)
app.add_typer(batch.app, name="batch", rich_help_panel=_USE)
app.add_typer(jobs.app, name="jobs", rich_help_panel=_USE)
app.add_typer(models.app, name="models", rich_help_panel=_USE)
app.command(rich_help_panel=_USE)(deployments.deploy)
app.add_typer(deployments.app, name="deployments", rich_help_panel=_USE)
app.command(rich_help_panel=_USE)(metrics.metrics)
app.add_typer(files.app, name="files", rich_help_panel=_USE)
keys.app.command("bootstrap")(platform.bootstrap_key)
app.add_typer(keys.app, name="keys", rich_help_panel=_USE)
app.command(rich_help_panel=_USE)(nodes.nodes)
app.command(rich_help_panel=_RUN)(platform.up)
app.command(rich_help_panel=_RUN)(platform.down)
app.command(rich_help_panel=_RUN)(platform.status)
app.command(rich_help_panel=_RUN)(env.env)
app.command(rich_help_panel=_RUN)(doctor.doctor)
app.command(rich_help_panel=_RUN)(logs.logs)


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
