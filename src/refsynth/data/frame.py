"""Columns and small tables from numpy, pandas, polars, Arrow or `datasets`, as lists.

Libraries are recognized by the methods of their objects, so that none of them needs to be installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from refsynth.core.errors import ArgumentError
from refsynth.core.types import Array

_NO_SEQUENCES = (str, bytes, dict, set, frozenset)


def column_of(values: Any, name: str) -> list[Any]:
    """Return one-dimensional data, or a table of one column, as a list.

    Args:
        values: the data.
        name: its name in messages.

    Raises:
        ArgumentError: the data has another shape, or none.
    """
    grid = grid_of(values, name)
    if grid.ndim == 2 and grid.shape[1] == 1:
        grid = grid[:, 0]
    if grid.ndim != 1:
        raise unfit(values, name, grid.shape, "one column: a list or the like")
    return list(grid)


def grid_of(values: Any, name: str) -> Array:
    """Return data as an array of objects with the same dimensions; masked values become None.

    Raises:
        ArgumentError: its rows differ in length, or it is no sequence.
    """
    try:
        if (names := getattr(values, "column_names", None)) is not None and names_in(values) is not None:
            columns = [cells_of(values[column], name) for column in names]  # Arrow, or `datasets`
            return np.array(columns, dtype=object).reshape(len(columns), len(values)).T
        grid = np.array(_listed(values), dtype=object)  # a copy
        if np.ma.isMaskedArray(values):
            grid[np.ma.getmaskarray(values)] = None
        return grid
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name}: found {type(values).__name__}", expected="one column: a list or the like") from error


def cells_of(values: Any, name: str) -> list[Any]:
    """Return the cells of a column as a list. A cell may itself be a list, such as the words of a text.

    Raises:
        ArgumentError: the data is not one column.
    """
    if (names := names_in(values)) is not None:
        if len(names) != 1:
            raise unfit(values, name, (len(values), len(names)), "one column")
        return cells_of(values[names[0]], name)
    if isinstance(values, _NO_SEQUENCES) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        raise unfit(values, name, (), "one column: a list or the like")
    for method in ("to_pylist", "to_list"):  # Arrow; pandas and polars. Both turn nested cells into lists
        if callable(to_list := getattr(values, method, None)):
            return [_plain(cell) for cell in to_list()]
    return [_plain(cell) for cell in values]


def pairs_of(values: Any, name: str) -> list[tuple[Any, Any]]:
    """Return a table of two columns, or a sequence of pairs, as a list of pairs.

    Raises:
        ArgumentError: the data has another shape.
    """
    if names_in(values) is not None or getattr(values, "ndim", 1) > 1:
        grid = grid_of(values, name)
        if grid.ndim != 2 or grid.shape[1] != 2:
            raise unfit(values, name, grid.shape, "two columns, or a sequence of pairs")
        return [(first, second) for first, second in grid]
    cells = cells_of(values, name)
    for place, cell in enumerate(cells):
        if not isinstance(cell, (list, tuple)) or len(cell) != 2:
            found = f"{type(cell).__name__} of {len(cell)}" if isinstance(cell, (list, tuple)) else type(cell).__name__
            raise ArgumentError(f"{name}[{place}]: found {found}", expected="a pair of texts: (first, second)")
    return [(cell[0], cell[1]) for cell in cells]


def names_in(values: Any) -> list[Any] | None:
    """Return the column names of a table of `pandas`, `polars`, Arrow or `datasets`; None for anything else."""
    if isinstance(values, dict) or not hasattr(values, "__len__"):
        return None
    names = getattr(values, "column_names", getattr(values, "columns", None))
    return list(names) if isinstance(names, Iterable) and not isinstance(names, (str, dict)) else None


def header_of(values: Any) -> list[str] | None:
    """Return the column names of a table if all of them are strings, as scikit-learn does; else None."""
    names = names_in(values)
    return names if names and all(isinstance(name, str) for name in names) else None


def unfit(values: Any, name: str, shape: tuple[int, ...], expected: str) -> ArgumentError:
    """Return the error for data that does not have the expected shape."""
    remedy = f"list({name}) makes one" if hasattr(values, "__next__") else ""
    remedy = "a sparse matrix holds numbers only" if hasattr(values, "tocsr") else remedy
    if (names := names_in(values)) and len(names) > 1:
        remedy = f"select the column, such as {name}[{names[0]!r}]; columns there: {', '.join(map(str, names[:8]))}"
    return ArgumentError(f"{name}: found {type(values).__name__} of shape {shape}", expected=expected, remedy=remedy)


def _listed(values: Any) -> Any:
    """Return what numpy reads without loss. Arrow and `datasets` become lists, in which integers stay integers."""
    if callable(to_list := getattr(values, "to_pylist", None)):  # Arrow
        return to_list()
    known = hasattr(values, "__array__") or isinstance(values, _NO_SEQUENCES)
    return list(values) if not known and isinstance(values, Sequence) else values


def _plain(cell: Any) -> Any:
    return cell.tolist() if isinstance(cell, (np.ndarray, np.generic)) else cell
