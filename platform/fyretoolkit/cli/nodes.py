"""`fyre nodes`: the machines that the platform runs on."""

from __future__ import annotations

from fyretoolkit.cli.calls import platform_client
from fyretoolkit.cli.listing import page_size, show_list
from fyretoolkit.cli.output import JsonOption, size
from fyretoolkit.client import NodeResource
from fyretoolkit.schemas.nodes import NodeAmount

_COLUMNS = ("id", "status", "regions", "CPUs free", "GPUs free", "memory free", "replicas")


def nodes(as_json: JsonOption = False) -> None:
    """List the platform's nodes: what each has, what is free of it, what is there of yours.

    The key needs the scope admin.
    """
    with platform_client() as client:
        page = client.nodes.list(limit=page_size(None))
        show_list(page, _COLUMNS, _row, limit=None, as_json=as_json)


def _row(node: NodeResource) -> tuple[object, ...]:
    memory = node.memory_bytes
    return (
        node.id[:12],
        ("head" if node.head else "ok") if node.alive else "dead",
        " ".join(node.regions),
        _free(node.cpus),
        _free(node.gpus),
        f"{size(int(memory.free))} of {size(int(memory.total))}" if node.alive else "",
        " ".join(f"{each.id}×{each.replicas}" for each in node.deployments),
    )


def _free(amount: NodeAmount) -> str:
    return f"{amount.free:g} of {amount.total:g}" if amount.total else ""
