"""How much of everything is measured, what a part is given, and the bounds that its figures are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.cells import Cell
from benchmarks.figures import Check, at_least, at_most, figure


@dataclass(frozen=True)
class Size:
    """Counts and seconds of all parts."""

    name: str
    repeats: int = 3
    seconds: float = 2.5
    """Of each repeat of a measured speed."""
    clients: tuple[int, ...] = (1, 8, 32)
    requests: int = 5_000
    """With numbered texts, whose replies are checked."""
    poisoned: int = 200
    cancelled: int = 200
    overload: float = 20.0
    bursts: int = 3
    burst: int = 1_280
    hoard: float = 12.0
    """Seconds of each kind of harm."""
    faults: int = 8
    drains: int = 5
    reloads: int = 6
    soak: float = 60.0
    cases: int = 300
    """Generated requests by Schemathesis, for each route."""
    nasty: int = 200
    keys: int = 2_000
    """Wrong ones."""
    planted: int = 2_000
    canaries: int = 200
    pairs: int = 5
    """Runs of each side where times are compared, with a trick and without it."""
    counted_pairs: int = 2
    """The same where memory or events are."""


QUICK = Size("quick")
LONG = Size(
    "long",
    repeats=9,
    seconds=8.0,
    requests=200_000,
    poisoned=1_000,
    cancelled=1_000,
    overload=300.0,
    hoard=60.0,
    bursts=20,
    faults=100,
    drains=100,
    reloads=50,
    soak=1_800.0,
    cases=6_000,
    nasty=5_000,
    keys=100_000,
    planted=10_000,
    canaries=10_000,
    counted_pairs=5,
)


@dataclass(frozen=True)
class Job:
    """What a part is given: a bundle, a folder for its servers, its size, and where cells and lines go."""

    bundle: Path
    work: Path
    size: Size
    add: Callable[[Cell], None]
    say: Callable[[str], None]


class Bound(NamedTuple):
    """A figure of a part, and the value that it may not fall below (`floor`) or exceed (`limit`)."""

    part: str
    figure: str
    unit: str = ""
    floor: float | None = None
    limit: float | None = None
    aim: float | None = None
    typical: bool = False
    """The median over the cells counts, instead of the worst of them."""

    def check(self, cells: Sequence[Cell]) -> Check:
        """Return the outcome over the cells that have the figure, with their range."""
        values = [float(cell[self.figure]) for cell in cells if cell["part"] == self.part and cell.get(self.figure) is not None]
        worst = np.max if self.limit is not None else np.min
        found = figure(values, self.unit, over="measurements", statistic=np.median if self.typical else worst)
        title, floor = f"{self.part}: {self.figure}", self.floor or 0.0
        return at_least(title, found, floor, self.aim) if self.limit is None else at_most(title, found, self.limit)
