"""`fyre models`: what can be deployed."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fyretoolkit.cli.calls import MISUSED, end, platform_client
from fyretoolkit.cli.listing import DEFAULT_LIMIT, LimitOption, page_size, show_list
from fyretoolkit.cli.output import JsonOption, moment, print_fields, print_json, short, size
from fyretoolkit.cli.sources import opened_source
from fyretoolkit.client import ModelResource
from fyretoolkit.schemas.models import TensorSignature

app = typer.Typer(no_args_is_help=True, help="Models: register, publish, archive.")

ModelId = Annotated[str, typer.Argument(help="The model's id.")]
Sha256Option = Annotated[str | None, typer.Option("--sha256", help="The digest that the content must have.")]


@app.command("list")
def list_models(
    status: Annotated[
        Literal["training", "ready", "archived"] | None, typer.Option(help="Only those.")
    ] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List your models and the public ones, newest first."""
    with platform_client() as client:
        page = client.models.list(status=status, limit=page_size(limit))
        columns = ("id", "status", "deployments", "size", "created", "description")
        show_list(page, columns, _row, limit=limit, as_json=as_json)


@app.command()
def get(model_id: ModelId, as_json: JsonOption = False) -> None:
    """Show a model: what it takes and gives, and the deployments that serve it."""
    with platform_client() as client:
        _show(client.models.get(model_id), as_json=as_json)


@app.command()
def push(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A .onnx file, a package's folder or archive, or a URL. Left out: the content comes with publish."
        ),
    ] = None,
    model_id: Annotated[
        str | None, typer.Option("--id", help="The model's id; else the manifest's or the file's name.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    sha256: Sha256Option = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model; local files are uploaded by themselves."""
    if source is None and model_id is None:
        end(MISUSED, "Name a source, or with --id the model whose content comes later.")
    with platform_client() as client:
        if source is None:
            model = client.models.create(id=model_id, description=description)
        else:
            with opened_source(source) as found:
                model = client.models.create(found, id=model_id, sha256=sha256, description=description)
    _show(model, as_json=as_json)


@app.command()
def publish(
    model_id: ModelId,
    source: Annotated[str, typer.Argument(help="A .onnx file, a package's folder or archive, or a URL.")],
    sha256: Sha256Option = None,
    as_json: JsonOption = False,
) -> None:
    """Give a model that was registered without content its content."""
    with platform_client() as client, opened_source(source) as found:
        model = client.models.publish(model_id, found, sha256=sha256)
    _show(model, as_json=as_json)


@app.command()
def archive(model_id: ModelId, as_json: JsonOption = False) -> None:
    """Put a model away: it cannot be deployed any more; its content stays."""
    with platform_client() as client:
        model = client.models.archive(model_id)
    if as_json:
        print_json(model)
    else:
        typer.echo(f"{model.id} is {model.status}.")


def _row(model: ModelResource) -> tuple[object, ...]:
    return (
        model.id, model.status, len(model.deployments), size(model.size_bytes) if model.size_bytes else "",
        moment(model.created), model.description,
    )  # fmt: skip


def _show(model: ModelResource, *, as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    signature = model.signature
    print_fields(
        [
            ("id", model.id),
            ("status", model.status),
            ("description", model.description),
            ("takes", ", ".join(map(_tensor, signature.inputs)) if signature else None),
            ("gives", ", ".join(map(_tensor, signature.outputs)) if signature else None),
            ("example", None if model.example is None else short(model.example)),
            ("source", model.source_uri),
            ("sha256", model.sha256),
            ("size", size(model.size_bytes) if model.size_bytes else None),
            ("deployments", ", ".join(model.deployments)),
            ("error", f"{model.error.code}: {model.error.message}" if model.error else None),
            ("created", moment(model.created)),
        ]
    )


def _tensor(tensor: TensorSignature) -> str:
    lengths = ", ".join("*" if length is None else str(length) for length in tensor.shape)
    return f"{tensor.name} {tensor.dtype}({lengths})"
