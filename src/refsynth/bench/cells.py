"""Measured cells on disk: one JSON line each, appended when it is measured, so that a long bench goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def interval(
    values: Sequence[float], *, seed: int = 0, statistic: Callable[[Any], float] = np.mean
) -> tuple[float, float, float]:
    """Return the mean of values over seeds with its 95% bootstrap interval."""
    data = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    means = [statistic(data[rng.integers(0, len(data), len(data))]) for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(statistic(data)), float(low), float(high)
