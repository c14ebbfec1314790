"""A suite: systems measured on data sets and seeds, and the table and checks of their accuracies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import MEANS, Check, at_least, figure, markdown, means, shown
from benchmarks.sets import Sample, read_sample
from refsynth.core.types import IntArray
from refsynth.kinds.metrics import accuracy, macro_f1

SHOTS = 8
TEST_ROWS, QUICK_ROWS = 1000, 200

Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Accuracy in points by system, set and seed, as far as it has been measured."""


class Group(NamedTuple):
    """Systems that are measured together, who measures them, and the package whose version their cells belong to."""

    measure: Callable[[Sample, str, int], list[Cell]]
    systems: tuple[str, ...]
    package: str = "refsynth"


class Over(NamedTuple):
    """One system over another, in points of accuracy: a number that the suite is held to."""

    name: str
    system: str
    over: str
    floor: float
    aim: float
    sets: tuple[str, ...] = ()
    """On these sets; on all of them if empty."""
    worst: bool = False
    """The least over sets, instead of the mean."""
    fixed: bool = False
    """The other system draws nothing: its one value stands for all seeds."""


@dataclass(frozen=True)
class Suite:
    """What is measured on what. All systems see the same labeled rows and the same test rows."""

    sets: tuple[str, ...]
    groups: tuple[Group, ...]
    order: tuple[str, ...]
    held: tuple[Over, ...]
    seeds: int = 5
    quick: tuple[str, ...] = ("snips",)
    """Sets of `--quick`, which has one seed and at most half of the test rows."""
    test_rows: int = TEST_ROWS
    shots: int = SHOTS
    """Labeled rows per class."""
    quick_shots: int | None = None
    borrowed: Mapping[str, str] = field(default_factory=dict)
    """Systems that another bench measures on the same rows, with its name: they are not measured twice."""
    more: Callable[[Cells], list[Check]] = lambda cells: []
    """Checks that are not a difference of accuracies."""
    notes: Callable[[Cells], str] = lambda cells: ""
    """What stands below the table."""

    def cells(self, options: Options) -> Iterator[Work]:
        """Yield the groups of each draw of each set."""
        rows = min(QUICK_ROWS, self.test_rows // 2) if options.quick else self.test_rows
        shots = self.quick_shots or self.shots if options.quick else self.shots
        for seed in range(options.seeds or (1 if options.quick else self.seeds)):
            for name in options.parts(self.sets, quick=self.quick):
                sample = read_sample(options.data, name, shots=shots, seed=seed, test_rows=rows)
                common = {"set": name, "seed": seed, "rows": len(sample.test)}
                for group in self.groups:
                    key = {**common, "version": version(group.package)}  # a peer is measured anew when the peer changes
                    yield Work(key, partial(group.measure, sample, name, seed), group.systems)

    def table(self, cells: Cells) -> str:
        """Return means over seeds, of three or more with 95% intervals, and the mean over sets where all are there."""
        values = self._values(cells)
        names = list(values[self.order[0]])
        rows = [
            [system, *(shown([*points.values()]) for points in found.values()), _mean(found)] for system, found in values.items()
        ]
        return "\n\n".join(filter(None, (markdown([f"system: {MEANS}", *names, "mean"], rows), self.notes(newest(cells)))))

    def checks(self, cells: Cells) -> list[Check]:
        """Return the differences that are held to a floor, and the suite's other checks."""
        values = self._values(cells)
        return [_checked(over, values) for over in self.held] + self.more(newest(cells))

    def _values(self, cells: Cells) -> Values:
        names = [name for name in self.sets if cells.find(set=name)]
        sources = {system: newest(cells.of(self.borrowed[system]) if system in self.borrowed else cells) for system in self.order}
        return {system: {name: _accuracies(found, name, system) for name in names} for system, found in sources.items()}


def cell(system: str, truth: IntArray, said: IntArray, seconds: float, k: int) -> Cell:
    """Return what was measured of a system that said one of `k` classes [N] of test rows whose classes are known [N]."""
    measured = {"accuracy": accuracy(truth, said), "macro_f1": macro_f1(truth, said, k)}
    return {"system": system, **measured, "seconds": round(seconds, 1)}


def newest(cells: Cells) -> Cells:
    """Return the newest cell of each system, set and seed, of those on the most test rows: `--quick` has fewer."""
    most: dict[tuple[str, str], int] = {}
    for one in cells.rows:
        most[one["set"], one["system"]] = max(one["rows"], most.get((one["set"], one["system"]), 0))
    whole = [one for one in cells.rows if one["rows"] == most[one["set"], one["system"]]]
    return cells.view(list({(one["set"], one["seed"], one["system"]): one for one in whole}.values()))


def _accuracies(cells: Cells, name: str, system: str) -> dict[int, float]:
    return {one["seed"]: 100 * one["accuracy"] for one in cells.find(set=name, system=system)}


def _mean(found: Mapping[str, Mapping[int, float]]) -> str:
    full = [float(np.mean([*points.values()])) for points in found.values() if points]
    return f"{np.mean(full):.1f}" if full and len(full) == len(found) else ""


def _checked(check: Over, values: Values) -> Check:
    """Return the check on the difference over data sets, on each the mean over seeds: its interval is about sets like these.

    The interval `by_seed` is about these very sets and other draws.
    """
    ours, theirs = values[check.system], values[check.over]
    names = [name for name in check.sets or ours if name in ours]
    gaps = [(name, seed, gap) for name in names for seed, gap in _gaps(ours[name], theirs[name], fixed=check.fixed)]
    statistic = np.min if check.worst else np.mean
    found = figure(means((name, gap) for name, _, gap in gaps), "points", over="data sets", statistic=statistic)
    whole = len(gaps) == len({name for name, _, _ in gaps}) * len({seed for _, seed, _ in gaps})  # no seed lacks a set
    by_seed = means((seed, gap) for _, seed, gap in gaps) if whole and not check.worst else []
    return at_least(check.name, found | {"by_seed": figure(by_seed, "points", over="seeds")}, check.floor, check.aim)


def _gaps(ours: Mapping[int, float], theirs: Mapping[int, float], *, fixed: bool) -> Iterator[tuple[int, float]]:
    """Yield the seeds that both have, with the difference."""
    if fixed and theirs:
        theirs = dict.fromkeys(ours, next(iter(theirs.values())))
    for seed in ours:
        if seed in theirs:
            yield seed, ours[seed] - theirs[seed]


def over_each(cells: Sequence[Cell], key: str) -> list[float]:
    """Return the mean of a figure on each data set."""
    return means((one["set"], one[key]) for one in cells)
