"""What commands print: tables for people, tab-separated columns for pipes, JSON for programs.

On a terminal a table has colour and fits the width. Into a pipe go the same cells whole, divided by tabs under a line
of names, since a table cut to 80 columns is of no use to `cut` or `awk`; `--json` prints what the API answered. Nothing
that a caller named (a model, a file) can move the cursor or change colours: what is not printable becomes a blank.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers it.")]
_STYLES = {
    "ok": "green",
    "ready": "green",
    "completed": "green",
    "active": "green",
    "delivered": "green",
    "wrong": "red",
    "failed": "red",
    "exhausted": "red",
    "unknown": "yellow",
    "degraded": "yellow",
    "canceled": "yellow",
    "processing": "cyan",
    "provisioning": "cyan",
    "training": "cyan",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def is_for_people() -> bool:
    """Whether somebody looks at stdout."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """One JSON value: of an answer, of a list of answers, or of what JSON is anyway."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """The same in one line, for streams."""
    typer.echo(json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")))


def print_list(found: Sequence[BaseModel], *, has_more: bool) -> None:
    """A page of answers as the API has it."""
    print_json({"object": "list", "data": list(found), "has_more": has_more})


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their names."""
    if not is_for_people():
        for row in (columns, *rows):
            typer.echo("\t".join(map(_cell, row)))
        return
    Console().print(rich_table(columns, rows))


def print_results(results: Sequence[Any]) -> None:
    """What a model answered: a column for each field if all are objects."""
    objects = [result for result in results if isinstance(result, dict)]
    if len(objects) < len(results):
        print_table(("result",), ((short(result),) for result in results))
        return
    columns = tuple(dict.fromkeys(name for result in objects for name in result))
    print_table(
        columns,
        ([short(result[name]) if name in result else "" for name in columns] for result in objects),
    )


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """The table for a terminal."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in ("id", "status"), overflow="fold")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))  # a name is not markup
    return table


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One object: a line for each field that says something."""
    shown = [(name, value) for name, value in fields if value not in (None, "")]
    if not is_for_people():
        for name, value in shown:
            typer.echo(f"{name}\t{_cell(value)}")
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in shown:
        table.add_row(name, _text(value))
    Console().print(table)


def say(message: str) -> None:
    """A line for people, beside the output: on stderr."""
    typer.echo(message, err=True)


def moment(at: float | None) -> str:
    """Unix seconds as the clock of this machine shows them; nothing for None."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def duration(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(number: int) -> str:
    """Bytes in the unit that suits them: `512 B`, `1.5 MiB`."""
    value, unit = float(number), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def short(value: object) -> str:
    """A result for people: texts as they are, numbers to four digits, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(_rounded(value), ensure_ascii=False)


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))


def _text(value: object) -> Text:
    cell = _cell(value)
    return Text(cell, style=_STYLES.get(cell, ""))
