"""Measured cells on disk: one JSON line each, appended when it is measured, so that a long bench goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

Cell = dict[str, Any]


class Cells:
    """The cells of one bench. A cell is known by its `set`, `seed`, `system` and the `version` of what was measured.

    With a `machine`, those of other machines are left out: a bench that times sides against each other is not to go on elsewhere.
    """

    def __init__(self, path: Path, *, machine: str | None = None) -> None:
        self._path = path
        rows: list[Cell] = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        self.rows = [row for row in rows if machine is None or row["machine"] == machine]

    def find(self, **key: Any) -> list[Cell]:
        """Return the cells that have these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def add(self, cell: Cell) -> None:
        """Append a cell to the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(cell, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(cell)


LEAST = 3
"""Values from which on an interval of their mean is given: of two it is a dozen times as wide as they are apart."""


MEANS = "mean over seeds [its 95% interval over these, by Student's t]"
"""What a table of `shown` values is headed with: they are no intervals over rows, as `core.intervals` makes them."""


def interval(values: Sequence[float], *, statistic: Callable[[Any], Any] = np.mean) -> tuple[float, float, float]:
    """Return the mean of N values with its 95% interval by Student's t distribution, which few values need.

    What it is an interval over is what the values are of: seeds on one data set, or data sets. Of another statistic, such as the
    median, the range of the values comes with it, if there are several. Without values all three are NaN; so are the bounds of a
    mean of fewer than `LEAST`, or of values that are all the same: something that draws nothing was measured again.
    """
    data = np.asarray(values, float)
    if not len(data):
        return (float("nan"),) * 3
    value = float(statistic(data))
    if statistic is not np.mean and len(data) > 1:
        return value, float(data.min()), float(data.max())
    if len(data) < LEAST or not np.ptp(data):
        return value, float("nan"), float("nan")
    half = float(t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return value, value - half, value + half


def shown(values: Sequence[float]) -> str:
    """Return e.g. `81.7 [80.5-82.9]`: the mean with its interval, if it has one."""
    mean, low, high = interval(values)
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} [{low:.1f}-{high:.1f}]"


def means(found: Iterable[tuple[Hashable, float]]) -> list[float]:
    """Return the mean of the values of each key: five draws of one data set are not five data sets."""
    by_key: dict[Hashable, list[float]] = {}
    for key, value in found:
        by_key.setdefault(key, []).append(value)
    return [float(np.mean(values)) for values in by_key.values()]


def figure(values: Sequence[float], unit: str, *, over: str, statistic: Callable[[Any], Any] = np.mean) -> dict[str, Any]:
    """Return what a check reports of its values, and what each of them is of: the interval is `over` these."""
    value, low, high = interval(values, statistic=statistic)
    bounds = "95% interval" if statistic is np.mean else "range"
    return {"value": value, "low": low, "high": high, "bounds": bounds, "unit": unit, "n": len(values), "over": over}


def spread(check: dict[str, Any]) -> str:
    """Return the bounds of what `figure` gave, in words, if there are any."""
    low, high = check.get("low", math.nan), check.get("high", math.nan)
    return "" if math.isnan(low) else f", {check['bounds']} {low:.4g} to {high:.4g} over {check['n']} {check['over']}"
