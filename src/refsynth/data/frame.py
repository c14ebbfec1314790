"""A column, or a table of few columns, of whichever library a Python caller uses: numpy, pandas, polars, Arrow, `datasets`.

Libraries are told apart by what they can do, so that none of them needs to be installed.
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
        name: what messages call it.

    Raises:
        ArgumentError: it has another shape, or none.
    """
    grid = grid_of(values, name)
    if grid.ndim == 2 and grid.shape[1] == 1:
        grid = grid[:, 0]
    if grid.ndim != 1:
        raise unfit(values, name, grid.shape, "one column: a list or the like")
    return list(grid)


def grid_of(values: Any, name: str) -> Array:
    """Return data as an array of objects, of as many dimensions as it has; what is masked is None.

    Raises:
        ArgumentError: its rows differ in length, or it is no data.
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
    """Return a column whose cells may be lists, such as the words of a text, as a list of its cells.

    Raises:
        ArgumentError: it is no column.
    """
    if (names := names_in(values)) is not None:
        if len(names) != 1:
            raise unfit(values, name, (len(values), len(names)), "one column")
        return cells_of(values[names[0]], name)
    if isinstance(values, _NO_SEQUENCES) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        raise unfit(values, name, (), "one column: a list or the like")
    for way in ("to_pylist", "to_list"):  # Arrow; pandas and polars, whose nested cells are lists then
        if callable(make := getattr(values, way, None)):
            return [_plain(cell) for cell in make()]
    return [_plain(cell) for cell in values]


def pairs_of(values: Any, name: str) -> list[tuple[Any, Any]]:
    """Return a table of two columns, or a sequence of pairs, as a list of pairs.

    Raises:
        ArgumentError: it has another shape.
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
    """Return the names of the columns of a table, of `pandas`, `polars`, Arrow or `datasets`; None of anything else."""
    if isinstance(values, dict) or not hasattr(values, "__len__"):
        return None
    names = getattr(values, "column_names", getattr(values, "columns", None))
    return list(names) if isinstance(names, Iterable) and not isinstance(names, (str, dict)) else None


def header_of(values: Any) -> list[str] | None:
    """Return the names of the columns of a table if all of them are words, as scikit-learn notes them; else None."""
    names = names_in(values)
    return names if names and all(isinstance(name, str) for name in names) else None


def unfit(values: Any, name: str, shape: tuple[int, ...], expected: str) -> ArgumentError:
    """Return the error for data of another shape than what is expected."""
    remedy = f"list({name}) makes one" if hasattr(values, "__next__") else ""
    remedy = "a sparse matrix holds numbers alone" if hasattr(values, "tocsr") else remedy
    if (names := names_in(values)) and len(names) > 1:
        remedy = f"take what is meant, such as {name}[{names[0]!r}]; columns there: {', '.join(map(str, names[:8]))}"
    return ArgumentError(f"{name}: found {type(values).__name__} of shape {shape}", expected=expected, remedy=remedy)


def _listed(values: Any) -> Any:
    """Return what numpy reads without loss: of Arrow and of `datasets` a list, in which whole numbers stay whole."""
    if callable(make := getattr(values, "to_pylist", None)):  # Arrow
        return make()
    known = hasattr(values, "__array__") or isinstance(values, _NO_SEQUENCES)
    return list(values) if not known and isinstance(values, Sequence) else values


def _plain(cell: Any) -> Any:
    return cell.tolist() if isinstance(cell, (np.ndarray, np.generic)) else cell
