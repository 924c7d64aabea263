"""`fyre files`: what was uploaded, as input of jobs or as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fyretoolkit.cli.calls import platform_client
from fyretoolkit.cli.listing import DEFAULT_LIMIT, LimitOption, page_size, show_list
from fyretoolkit.cli.output import JsonOption, moment, print_fields, print_json, say, size
from fyretoolkit.client import FileResource

app = typer.Typer(no_args_is_help=True, help="Files: upload, download, delete.")

FileId = Annotated[str, typer.Argument(help="The file's id (file_…).")]


@app.command("list")
def list_files(limit: LimitOption = DEFAULT_LIMIT, as_json: JsonOption = False) -> None:
    """List files that have not expired, newest first."""
    with platform_client() as client:
        page = client.files.list(limit=page_size(limit))
        show_list(
            page, ("id", "filename", "size", "created", "kept until"), _row, limit=limit, as_json=as_json
        )


@app.command()
def get(file_id: FileId, as_json: JsonOption = False) -> None:
    """Show a file's name, size and digest."""
    with platform_client() as client:
        file = client.files.get(file_id)
    if as_json:
        print_json(file)
        return
    columns = ("id", "filename", "size", "created", "kept until")
    print_fields([*zip(columns, _row(file), strict=True), ("sha256", file.sha256)])


@app.command()
def upload(path: Annotated[Path, typer.Argument(help="A local file.")], as_json: JsonOption = False) -> None:
    """Upload a file and print the URI that jobs and models take."""
    with platform_client() as client:
        file = client.files.upload(path)
    if as_json:
        print_json(file)
    else:
        typer.echo(f"fyre://files/{file.id}")
        say(f"{size(file.size_bytes)}, kept until {moment(file.expires_at)}")


@app.command()
def download(
    file_id: FileId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; else under its own name.")
    ] = None,
) -> None:
    """Save a file's bytes; what is there under the name is replaced only with --output."""
    with platform_client() as client:
        to = output or Path(client.files.get(file_id).filename)
        if output is None and to.exists():
            raise FileExistsError(17, "It exists; say --output to replace it", str(to))
        say(f"saved {client.files.download(file_id, to)}")


@app.command()
def delete(file_id: FileId, as_json: JsonOption = False) -> None:
    """Delete a file at once."""
    with platform_client() as client:
        deleted = client.files.delete(file_id)
    if as_json:
        print_json(deleted)
    else:
        typer.echo(f"{deleted.id} is deleted.")


def _row(file: FileResource) -> tuple[object, ...]:
    return file.id, file.filename, size(file.size_bytes), moment(file.created), moment(file.expires_at)
