"""`fyre deploy` and `fyre deployments`: models that are being served."""

from __future__ import annotations

from typing import Annotated

import typer

from fyretoolkit.cli.calls import INTERRUPTED, MISUSED, end, platform_client
from fyretoolkit.cli.listing import DEFAULT_LIMIT, LimitOption, page_size, show_list
from fyretoolkit.cli.output import JsonOption, moment, print_fields, print_json, say
from fyretoolkit.cli.sources import opened_model
from fyretoolkit.client import Deployment

app = typer.Typer(no_args_is_help=True, help="Deployments: scale, roll out, roll back, watch.")

DeploymentId = Annotated[str, typer.Argument(help="The deployment's id (dep_…).")]
_MIN = Annotated[int | None, typer.Option("--min", min=0, help="Autoscaling: the fewest replicas.")]
_MAX = Annotated[int | None, typer.Option("--max", min=1, help="Autoscaling: the most replicas.")]


def deploy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A registered model's id, a .onnx file, a package's folder or archive, or a URL.",
        ),
    ],
    region: Annotated[str, typer.Option(help="Where it runs.", envvar="FYRE_REGION")],
    replicas: Annotated[int | None, typer.Option(min=1, help="How many; 1 if left out.")] = None,
    least: _MIN = None,
    most: _MAX = None,
    model_id: Annotated[
        str | None,
        typer.Option("--as", metavar="ID", help="The model id that it answers for, as a new version of it."),
    ] = None,
    traffic: Annotated[
        int | None, typer.Option(min=0, max=100, help="Weight beside the model's other deployments.")
    ] = None,
    num_gpus: Annotated[float | None, typer.Option(min=0, help="For each replica; 0.5: half of one.")] = None,
    accelerator_type: Annotated[str | None, typer.Option(help="The kind of GPU, such as A100.")] = None,
    max_wait_s: Annotated[
        int | None, typer.Option(min=1, help="How long to wait for a node with room.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return before it is ready.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a model, and stay until it is ready.

    fyre deploy digits --region us-east-1
    """
    with platform_client() as client:
        with opened_model(source) as found:
            deployment = client.deployments.create(
                found,
                region=region,
                replicas=replicas,
                autoscaling=_bounds(least, most),
                model_id=model_id,
                traffic=traffic,
                num_gpus=num_gpus,
                accelerator_type=accelerator_type,
                max_wait_s=max_wait_s,
            )
        if not no_wait:
            deployment = _follow(deployment, as_json=as_json)
    if no_wait and not as_json:
        typer.echo(deployment.id)
        say(f"It is {deployment.status}. Follow it: fyre deployments watch {deployment.id}")
    else:
        _show(deployment, as_json=as_json)


@app.command("list")
def list_deployments(limit: LimitOption = DEFAULT_LIMIT, as_json: JsonOption = False) -> None:
    """List deployments that were not deleted, newest first."""
    with platform_client() as client:
        page = client.deployments.list(limit=page_size(limit))
        columns = ("id", "status", "model", "version", "replicas", "traffic", "region", "created")
        show_list(page, columns, _row, limit=limit, as_json=as_json)


@app.command()
def get(deployment_id: DeploymentId, as_json: JsonOption = False) -> None:
    """Show a deployment and what happened to it."""
    with platform_client() as client:
        deployment = client.deployments.get(deployment_id)
    _show(deployment, as_json=as_json)
    if not as_json:
        for event in deployment.events:
            say(f"{moment(event.at)}  {event.stage}: {event.message}")


@app.command()
def scale(
    deployment_id: DeploymentId,
    replicas: Annotated[int | None, typer.Argument(min=1, help="How many replicas.")] = None,
    least: _MIN = None,
    most: _MAX = None,
    fixed: Annotated[bool, typer.Option("--fixed", help="Switch autoscaling off.")] = False,
    traffic: Annotated[
        int | None, typer.Option(min=0, max=100, help="Weight beside the model's other deployments.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change the number of replicas, the bounds of autoscaling, or the share of traffic.

    fyre deployments scale dep_… 3, or with bounds: --min 1 --max 5
    """
    bounds = _bounds(least, most)
    if bounds is not None and fixed:
        end(MISUSED, "Give either bounds or --fixed.")
    if replicas is None and bounds is None and traffic is None and not fixed:
        end(MISUSED, "Say what to change: a number of replicas, --min and --max, --fixed, or --traffic.")
    with platform_client() as client:
        if bounds is not None or fixed:
            deployment = client.deployments.change(
                deployment_id, replicas=replicas, autoscaling=bounds, traffic=traffic
            )
        else:
            deployment = client.deployments.change(deployment_id, replicas=replicas, traffic=traffic)
    _show(deployment, as_json=as_json)


@app.command()
def promote(deployment_id: DeploymentId, as_json: JsonOption = False) -> None:
    """Give a deployment all traffic of its model, in one step."""
    with platform_client() as client:
        _show(client.deployments.promote(deployment_id), as_json=as_json)


@app.command()
def rollback(deployment_id: DeploymentId, as_json: JsonOption = False) -> None:
    """Take all traffic from a deployment, in one step."""
    with platform_client() as client:
        _show(client.deployments.rollback(deployment_id), as_json=as_json)


@app.command()
def delete(deployment_id: DeploymentId, as_json: JsonOption = False) -> None:
    """Delete a deployment: requests in flight finish, then its replicas are freed."""
    with platform_client() as client:
        deleted = client.deployments.delete(deployment_id)
    if as_json:
        print_json(deleted)
    else:
        typer.echo(f"{deleted.id} is deleted.")


@app.command()
def watch(deployment_id: DeploymentId, as_json: JsonOption = False) -> None:
    """Follow a deployment until it is ready. Exit codes: 0 ready, 1 it never will be."""
    with platform_client() as client:
        _show(_follow(client.deployments.get(deployment_id), as_json=as_json), as_json=as_json)


def _follow(deployment: Deployment, *, as_json: bool) -> Deployment:
    """Its stages as they come, on stderr."""
    try:
        return deployment.wait_until_ready(
            progress=False if as_json else lambda event: say(f"{event.stage}: {event.message}")
        )
    except KeyboardInterrupt:
        end(INTERRUPTED, f"{deployment.id} goes on. Follow it: fyre deployments watch {deployment.id}")


def _bounds(least: int | None, most: int | None) -> tuple[int, int] | None:
    if least is None and most is None:
        return None
    if least is None or most is None:
        end(MISUSED, "Autoscaling needs both --min and --max.")
    return least, most


def _replicas(deployment: Deployment) -> str:
    counts = deployment.replicas
    bounds = deployment.autoscaling
    between = f" ({bounds.min_replicas} to {bounds.max_replicas})" if bounds else ""
    return f"{counts.ready}/{counts.desired}{between}"


def _row(deployment: Deployment) -> tuple[object, ...]:
    return (
        deployment.id, deployment.status, deployment.model, deployment.version, _replicas(deployment),
        deployment.traffic, deployment.region, moment(deployment.created),
    )  # fmt: skip


def _show(deployment: Deployment, *, as_json: bool) -> None:
    if as_json:
        print_json(deployment)
        return
    error = deployment.error
    gpus = f"{deployment.num_gpus:g} {deployment.accelerator_type or ''}".rstrip()
    print_fields(
        [
            ("id", deployment.id),
            ("status", deployment.status),
            ("stage", deployment.stage if deployment.status == "provisioning" else None),
            ("model", deployment.model),
            ("version", deployment.version if deployment.version != deployment.model else None),
            ("source", deployment.model_uri),
            ("region", deployment.region),
            ("replicas", _replicas(deployment)),
            ("traffic", deployment.traffic),
            ("gpus", gpus if deployment.num_gpus else None),
            ("rows at a time", deployment.batching.max_batch_size if deployment.batching else None),
            ("endpoint", deployment.endpoint),
            ("error", f"{error.code}: {error.message}" if error else None),
            ("created", moment(deployment.created)),
        ]
    )
