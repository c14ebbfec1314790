"""The table and checks of the bench `evidence`: how often what small runs say of themselves is so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, at_most, figure, markdown
from refsynth.core.intervals import mean_interval

COVERED_FLOOR, COVERED_AIM, COVERED_CEILING = 93.0, 95.0, 97.0
"""Percent of the runs whose 95% interval holds the accuracy on the test rows."""

RISK_FLOOR, RISK_AIM = 90.0, 90.0
"""Percent of the runs whose risk on the answered test rows is at most the stated bound, which is one-sided, of 90%."""

FALSE_LIMIT = 5.0
"""Percent of the runs that may take drafts with shuffled labels."""

POWER_FLOOR, POWER_AIM = 50.0, 80.0
"""Percent of the runs that are to take as many rows again under their own labels."""

USELESS, USEFUL = ("shuffled, chosen", "shuffled, all"), ("right, chosen", "right, all")
"""Of shuffled ones agreement chooses those that have their own label by chance and so may help. They count all the same."""


def table(cells: Cells) -> str:
    """Return what runs claim and what is so, and which drafts they take, by size and set."""
    rows = _counted(cells)
    note = "In brackets the mean gain on the test rows, in points: of all runs; of those that took the drafts."
    return "\n\n".join([_claims(rows), _drafts(rows), note])


def checks(cells: Cells) -> list[Check]:
    """Return the checks over all sizes, and by size."""
    rows = _counted(cells)
    by_size = {f"{size} rows a class": [one for one in rows if one["shots"] == size] for size in _sizes(rows)}
    return [check for name, some in ({"all sizes": rows} | by_size).items() for check in _checks(some, name)]


def _counted(cells: Cells) -> list[Cell]:
    """Return the runs; those of `--quick` count where there are no others."""
    return cells.find(quick=False) or cells.rows


def _sizes(rows: Sequence[Cell]) -> list[int]:
    return sorted({one["shots"] for one in rows})


def covered(one: Cell) -> bool:
    """Return whether the interval of a run's cross-validated accuracy holds that on the test rows."""
    return bool(one["cv_low"] <= one["accuracy"] <= one["cv_high"])


def kept(one: Cell) -> bool:
    """Return whether a run errs at most as often as it says among the test rows that it answers; silence errs never."""
    return bool(one["risk"] is None or one["risk"] <= one["risk_high"])


def _checks(rows: Sequence[Cell], size: str) -> list[Check]:
    interval, risk = _percent(map(covered, rows)), _percent(map(kept, rows))
    return [
        at_least(f"{size}: interval holds the test accuracy", interval, COVERED_FLOOR, COVERED_AIM),
        at_most(f"{size}: and is no wider than it need be", interval, COVERED_CEILING),
        at_least(f"{size}: risk within the stated bound", risk, RISK_FLOOR, RISK_AIM),
        *(at_most(f"{size}: taken, {kind}", _taken(rows, kind), FALSE_LIMIT) for kind in USELESS),
        *(at_least(f"{size}: taken, {kind}", _taken(rows, kind), POWER_FLOOR, POWER_AIM) for kind in USEFUL),
    ]


def _taken(rows: Sequence[Cell], kind: str) -> dict[str, Any]:
    return _percent(one["drafts"][kind]["taken"] for one in rows)


def _percent(marks: Iterable[bool]) -> dict[str, Any]:
    """Return a share of runs in percent with its Wilson interval."""
    counted = np.array([int(mark) for mark in marks])
    if not len(counted):
        return figure([], "% of runs", over="runs")
    found = mean_interval("share", counted)
    bounds = {"low": 100 * found.low, "high": 100 * found.high, "bounds": "95% interval", "over": "runs"}
    return {"value": 100 * found.value, "unit": "% of runs", "n": found.n, **bounds}


def _claims(rows: Sequence[Cell]) -> str:
    head = ["set", "rows a class", "runs", "accuracy", "cross-validated", "interval holds it", "ECE before", "ECE after"]
    head += ["answered", "risk there", "stated bound", "risk within it"]
    keys = ("accuracy", "cv", "ece_before", "ece_after", "answered", "risk", "risk_high")
    lines = []
    for name, shots, mine in _parts(rows):
        accuracy, scored, *others = (f"{100 * _mean(mine, key):.1f}" for key in keys)
        held, within = (_shown(_percent(map(each, mine))) for each in (covered, kept))
        lines.append([name, shots, len(mine), accuracy, scored, held, *others, within])
    return markdown(head, lines)


def _drafts(rows: Sequence[Cell]) -> str:
    kinds = (*USELESS, *USEFUL)
    head = ["set", "rows a class", *(f"taken: {kind}" for kind in kinds)]
    lines = []
    for name, shots, mine in _parts(rows):
        lines.append([name, shots, *(_verdicts([one["drafts"][kind] for one in mine]) for kind in kinds)])
    return markdown(head, lines)


def _verdicts(found: Sequence[dict[str, Any]]) -> str:
    taken = [100 * one["test_gain"] for one in found if one["taken"]]
    gains = f"{np.mean([100 * one['test_gain'] for one in found]):+.1f}" + (f"; {np.mean(taken):+.1f}" if taken else "")
    return f"{len(taken)} of {len(found)} ({gains})"


def _parts(rows: Sequence[Cell]) -> list[tuple[str, int, list[Cell]]]:
    found = []
    for shots in _sizes(rows):
        mine = [one for one in rows if one["shots"] == shots]
        names = list(dict.fromkeys(one["set"] for one in mine))
        found += [(name, shots, [one for one in mine if one["set"] == name]) for name in names]
        found.append(("all", shots, mine))
    return found


def _mean(rows: Sequence[Cell], key: str) -> float:
    return float(np.mean([one[key] for one in rows if one[key] is not None]))


def _shown(share: dict[str, Any]) -> str:
    return f"{share['value']:.0f}% [{share['low']:.0f}-{share['high']:.0f}]"
