"""Measured cells on disk: one JSON line each, appended when it is measured, so that a long bench goes on where it stopped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
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


def interval(values: Sequence[float], *, statistic: Callable[[Any], Any] = np.mean) -> tuple[float, float, float]:
    """Return the mean of N values with its 95% interval by Student's t distribution, which few values need.

    What it is an interval over is what the values are of: seeds on one data set, or data sets. Of another statistic, such as the
    median, the range of the values comes with it. Without values all three are NaN; so are the bounds of fewer than `LEAST`.
    """
    data = np.asarray(values, float)
    if not len(data):
        return (float("nan"),) * 3
    value = float(statistic(data))
    if statistic is not np.mean:
        return value, float(data.min()), float(data.max())
    if len(data) < LEAST:
        return value, float("nan"), float("nan")
    half = float(t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return value, value - half, value + half


def shown(values: Sequence[float]) -> str:
    """Return e.g. `81.7 [80.5-82.9]`: the mean with its interval, if it has one."""
    mean, low, high = interval(values)
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} [{low:.1f}-{high:.1f}]"


def figure(values: Sequence[float], unit: str, *, statistic: Callable[[Any], Any] = np.mean) -> dict[str, Any]:
    """Return what a check reports of the values that it is about."""
    value, low, high = interval(values, statistic=statistic)
    return {"value": value, "low": low, "high": high, "unit": unit, "n": len(values)}
