"""`fyre metrics`: requests, latency and errors of deployments, with their course as a line of blocks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.live import Live

from fyretoolkit.cli.calls import INTERRUPTED, platform_client
from fyretoolkit.cli.output import is_for_people, print_json, print_json_line, print_table, rich_table
from fyretoolkit.client import Client, MetricsResource

WATCH_S = 2.0
"""The platform's figures are at most two seconds old."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _LEAST_WIDTH = 30, 8
_BESIDE = 75
"""Columns of a terminal that the figures take."""
_MOST = 20
_COLUMNS = ("id", "requests", "per s", "failed", "p50 ms", "p99 ms", "course", "p99 course")


def metrics(
    deployments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Deployments (dep_…) or models, whose deployments are meant; else yours."
        ),
    ] = None,
    period: Annotated[Literal["5m", "1h", "24h", "7d"], typer.Option(help="How far back to look.")] = "5m",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, as the API answers it; a line each time with --watch.")
    ] = False,
) -> None:
    """Show how deployments do: requests, latency, failures."""
    with platform_client() as client:
        ids = _ids(client, deployments or [])
        looks = _looks(client, ids, period, is_endless=watch)
        try:
            if watch and is_for_people() and not as_json:
                _watch(looks)
            else:
                for found in looks:
                    _print(found, as_json=as_json, is_line=watch)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def sparkline(values: Sequence[float | None], *, width: int = _WIDTH) -> str:
    """The course of a figure, newest right: the lowest block is 0, the highest the largest value; a blank is nothing.

    More values than `width` are joined, each block being the largest of its values: a peak is never averaged away.
    """
    each = -(-len(values) // width) or 1
    joined = [_largest(values[max(0, end - each) : end]) for end in range(len(values), 0, -each)][::-1]
    top = max((value for value in joined if value is not None), default=0.0)
    return "".join(_block(value, top) for value in joined)


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    return _BLOCKS[round(value / top * (len(_BLOCKS) - 1))] if top > 0 else _BLOCKS[0]


def _ids(client: Client, named: Sequence[str]) -> list[str]:
    """The deployments that are meant, each once."""
    if not named:
        return [deployment.id for deployment in islice(client.deployments.list(limit=_MOST), _MOST)]
    found: dict[str, None] = {}
    for name in named:
        meant = [name] if name.startswith("dep_") else client.models.get(name).deployments
        found.update(dict.fromkeys(meant))
    return list(found)


def _looks(
    client: Client, ids: Sequence[str], period: Literal["5m", "1h", "24h", "7d"], *, is_endless: bool
) -> Iterator[list[MetricsResource]]:
    while True:
        yield [client.metrics.get(each, period=period) for each in ids]
        if not is_endless:
            return
        time.sleep(WATCH_S)


def _watch(looks: Iterator[list[MetricsResource]]) -> None:
    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        for found in looks:
            live.update(rich_table(_COLUMNS, _rows(found, console.width)), refresh=True)


def _print(found: list[MetricsResource], *, as_json: bool, is_line: bool) -> None:
    listed = {"object": "list", "data": found, "has_more": False}
    if as_json and is_line:
        print_json_line(listed)
    elif as_json:
        print_json(listed)
    else:
        print_table(_COLUMNS, _rows(found, Console().width if is_for_people() else None))


def _rows(found: Iterable[MetricsResource], columns: int | None) -> Iterator[tuple[object, ...]]:
    """`columns`: of the terminal; None: as many as are wanted."""
    width = _WIDTH if columns is None else max(_LEAST_WIDTH, min(_WIDTH, (columns - _BESIDE) // 2))
    return (_row(each, width) for each in found)


def _row(found: MetricsResource, width: int) -> tuple[object, ...]:
    figures = found.metrics
    latency, rejected = figures.latency.total, figures.requests.rejected
    return (
        found.deployment_id,
        figures.requests.total,
        f"{figures.requests.per_second:.3g}",
        f"{figures.requests.failed}{f', {rejected} rejected' if rejected else ''}",
        _ms(latency.p50),
        _ms(latency.p99),
        sparkline([point.requests for point in figures.series], width=width),
        sparkline([point.p99 for point in figures.series], width=width),
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
