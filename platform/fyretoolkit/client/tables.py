"""Results as tables. pyarrow and pandas are imported when a table is asked for, and not before."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fyretoolkit.client.errors import MissingPackageError
from fyretoolkit.client.records import JobResult

if TYPE_CHECKING:
    import pandas
    import pyarrow


def arrow_table(results: Sequence[JobResult]) -> pyarrow.Table:
    """One row for each result.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    rows = _rows(results)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return _imported("pyarrow").table(columns)


def data_frame(results: Sequence[JobResult]) -> pandas.DataFrame:
    """One row for each result.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    return _imported("pandas").DataFrame(_rows(results))


def _rows(results: Sequence[JobResult]) -> list[dict[str, Any]]:
    """A result that is an object has a column for each field; any other has the column `result`."""
    has_ids = any(each.id is not None for each in results)
    rows = []
    for each in results:
        row: dict[str, Any] = {"index": each.index, **({"id": each.id} if has_ids else {})}
        fields = each.result if isinstance(each.result, dict) else {"result": each.result}
        rows.append({**fields, **row} if row.keys() & fields.keys() else {**row, **fields})
    return rows


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"This needs {name}, which is not installed: pip install {name}. iter_results() does without."
        ) from error
