"""A suite: systems measured on data sets and seeds, cell by cell, and the table and checks that are made from the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import MEANS, Cell, Cells, figure, means, shown
from benchmarks.sets import Sample, read_sample
from refsynth.core.machine import describe_machine
from refsynth.core.types import IntArray
from refsynth.metrics import accuracy, macro_f1

SHOTS = 8
TEST_ROWS = 1000

Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Accuracy in points by system, set and seed, as far as it has been measured."""


class Group(NamedTuple):
    """Systems that are measured together, who measures them, and the package whose version their cells belong to."""

    measure: Callable[[Sample, str, int], list[Cell]]
    systems: tuple[str, ...]
    package: str


class Check(NamedTuple):
    """A number that the suite is held to: one system over another, in points of accuracy."""

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
    """What is measured on what. All systems see the same labelled rows and the same test rows."""

    name: str
    sets: tuple[str, ...]
    groups: tuple[Group, ...]
    order: tuple[str, ...]
    checks: tuple[Check, ...]
    test_rows: int = TEST_ROWS
    shots: int = SHOTS
    """Labelled rows per class."""
    borrowed: Mapping[str, str] = field(default_factory=dict)
    """Systems that another suite measures on the same rows, with its name: they are not measured twice."""
    more: Callable[[Cells], list[dict[str, Any]]] = lambda cells: []
    """Checks that are not a difference of accuracies."""
    notes: Callable[[Cells], str] = lambda cells: ""
    """What stands below the table."""

    def measure(
        self, data: Path, results: Path, *, seeds: int, sets: Sequence[str] | None, quick: bool, say: Callable[[str], None]
    ) -> Cells:
        """Measure the cells that are missing, and return all."""
        cells = Cells(results / f"{self.name}.jsonl")
        for system, suite in self.borrowed.items():
            cells.rows += Cells(results / f"{suite}.jsonl").find(system=system)
        rows = min(200, self.test_rows) if quick else self.test_rows
        for seed in range(seeds):
            for name in sets or self.sets:
                sample = read_sample(data, name, shots=self.shots, seed=seed, test_rows=rows)
                common = {"set": name, "seed": seed, "rows": len(sample.test)}
                for group in self.groups:
                    measured = {**common, "version": version(group.package)}  # a peer is measured anew when the peer changes
                    if any(not cells.find(**measured, system=system) for system in group.systems):
                        for cell in group.measure(sample, name, seed):
                            cells.add({**measured, **cell, "machine": describe_machine()})
                            say(f"{name} seed {seed} {cell['system']}: {100 * cell['accuracy']:.1f} ({cell['seconds']:.0f} s)")
        return cells

    def outcome(self, cells: Cells) -> dict[str, Any]:
        """Return the table of means with intervals over seeds, and the checks against the floors."""
        names = [name for name in self.sets if cells.find(set=name)]
        values = {system: {name: _accuracies(cells, name, system) for name in names} for system in self.order}
        checks = [_checked(check, values, names) for check in self.checks] + self.more(cells)
        return {
            "name": self.name,
            "machine": describe_machine(),
            "rows": cells.rows,
            "checks": checks,
            "table": "\n\n".join(part for part in (table(values, names), self.notes(cells)) if part),
        }


def cell(system: str, truth: IntArray, said: IntArray, seconds: float, k: int) -> Cell:
    """Return what was measured of a system that said one of `k` classes [N] of test rows whose classes are known [N]."""
    measured = {"accuracy": accuracy(truth, said), "macro_f1": macro_f1(truth, said, k)}
    return {"system": system, **measured, "seconds": round(seconds, 1)}


def table(values: Values, names: Sequence[str]) -> str:
    """Return means over seeds as Markdown, of three or more with 95% intervals, and the mean over sets where all are there."""
    lines = [f"| system: {MEANS} | " + " | ".join(names) + " | mean |", "|---" * (len(names) + 2) + "|"]
    for system, by_set in values.items():
        full = [list(points.values()) for points in by_set.values() if points]
        mean = f"{np.mean([np.mean(points) for points in full]):.1f}" if full and len(full) == len(names) else ""
        cells = [shown(list(points.values())) if points else "" for points in by_set.values()]
        lines.append("| " + " | ".join([system, *cells, mean]) + " |")
    return "\n".join(lines)


def _accuracies(cells: Cells, name: str, system: str) -> dict[int, float]:
    """Return those by seed on as many test rows as have been measured: cells of `--quick` may be in the same file."""
    found = cells.find(set=name, system=system)
    most = max((one["rows"] for one in found), default=0)
    return {one["seed"]: 100 * one["accuracy"] for one in found if one["rows"] == most}


def _checked(check: Check, values: Values, names: Sequence[str]) -> dict[str, Any]:
    """Return the check on the difference over data sets, on each the mean over seeds: its interval is about sets like these.

    The interval `by_seed` is about these very sets and other draws.
    """
    pairs = {name: (values[check.system][name], values[check.over][name]) for name in check.sets or names if name in names}
    gaps = [(name, seed, gap) for name, sides in pairs.items() for seed, gap in _gaps(*sides, fixed=check.fixed)]
    statistic = np.min if check.worst else np.mean
    measured = figure(means((name, gap) for name, _, gap in gaps), "points", over="data sets", statistic=statistic)
    whole = len(gaps) == len({name for name, _, _ in gaps}) * len({seed for _, seed, _ in gaps})  # no seed lacks a set
    by_seed = means((seed, gap) for _, seed, gap in gaps) if whole and not check.worst else []
    bounds = {"floor": check.floor, "aim": check.aim, "ok": measured["value"] >= check.floor}
    return {"name": check.name, **measured, "by_seed": figure(by_seed, "points", over="seeds"), **bounds}


def _gaps(ours: Mapping[int, float], theirs: Mapping[int, float], *, fixed: bool) -> Iterator[tuple[int, float]]:
    """Yield the seeds that both have, with the difference."""
    if fixed and theirs:
        theirs = dict.fromkeys(ours, next(iter(theirs.values())))
    for seed in ours:
        if seed in theirs:
            yield seed, ours[seed] - theirs[seed]
