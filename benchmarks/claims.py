"""The table and checks of the bench `evidence`: how often what small runs say of themselves is so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells
from refsynth.core.intervals import mean_interval
from refsynth.core.machine import describe_machine

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


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table by set and size, and the checks by size; runs of `--quick` count where there are no others."""
    rows = cells.find(quick=False) or cells.rows
    sizes = sorted({one["shots"] for one in rows})
    return {
        "name": "evidence",
        "machine": describe_machine(),
        "rows": cells.rows,
        "checks": [
            *_checks(rows, "all sizes"),
            *(each for size in sizes for each in _checks([one for one in rows if one["shots"] == size], f"{size} rows a class")),
        ],
        "table": "\n\n".join([_claims(rows, sizes), _drafts(rows, sizes)]),
    }


def covered(one: Cell) -> bool:
    """Return whether the interval of a run's cross-validated accuracy holds that on the test rows."""
    return bool(one["cv_low"] <= one["accuracy"] <= one["cv_high"])


def kept(one: Cell) -> bool:
    """Return whether a run errs at most as often as it says among the test rows that it answers; silence errs never."""
    return bool(one["risk"] is None or one["risk"] <= one["risk_high"])


def _checks(rows: Sequence[Cell], size: str) -> list[dict[str, Any]]:
    interval, risk = _percent(map(covered, rows)), _percent(map(kept, rows))
    return [
        {"name": f"{size}: interval holds the test accuracy", **_at_least(interval, COVERED_FLOOR, COVERED_AIM)},
        {"name": f"{size}: and is no wider than it need be", **_at_most(interval, COVERED_CEILING)},
        {"name": f"{size}: risk within the stated bound", **_at_least(risk, RISK_FLOOR, RISK_AIM)},
        *({"name": f"{size}: taken, {kind}", **_at_most(_taken(rows, kind), FALSE_LIMIT)} for kind in USELESS),
        *({"name": f"{size}: taken, {kind}", **_at_least(_taken(rows, kind), POWER_FLOOR, POWER_AIM)} for kind in USEFUL),
    ]


def _taken(rows: Sequence[Cell], kind: str) -> dict[str, Any]:
    return _percent(one["drafts"][kind]["taken"] for one in rows)


def _percent(marks: Iterable[bool]) -> dict[str, Any]:
    """Return a share of runs in percent with its Wilson interval."""
    found = mean_interval("share", np.array([int(mark) for mark in marks]))
    bounds = {"low": 100 * found.low, "high": 100 * found.high, "bounds": "95% interval", "over": "runs"}
    return {"value": 100 * found.value, "unit": "% of runs", "n": found.n, **bounds}


def _at_least(share: dict[str, Any], floor: float, aim: float) -> dict[str, Any]:
    return {**share, "floor": floor, "aim": aim, "ok": share["value"] >= floor}


def _at_most(share: dict[str, Any], limit: float) -> dict[str, Any]:
    return {**share, "limit": limit, "ok": share["value"] <= limit}


def _claims(rows: Sequence[Cell], sizes: Sequence[int]) -> str:
    head = ["set", "rows a class", "runs", "accuracy", "cross-validated", "interval holds it", "ECE before", "ECE after"]
    head += ["answered", "risk there", "stated bound", "risk within it"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, shots, mine in _parts(rows, sizes):
        means = [f"{100 * _mean(mine, key):.1f}" for key in ("accuracy", "cv")]
        errors = [f"{100 * _mean(mine, key):.1f}" for key in ("ece_before", "ece_after", "answered", "risk", "risk_high")]
        shares = [_shown(_percent(map(each, mine))) for each in (covered, kept)]
        lines.append("| " + " | ".join([name, str(shots), str(len(mine)), *means, shares[0], *errors, shares[1]]) + " |")
    return "\n".join(lines)


def _drafts(rows: Sequence[Cell], sizes: Sequence[int]) -> str:
    kinds = (*USELESS, *USEFUL)
    lines = ["| set | rows a class | " + " | ".join(f"taken: {kind}" for kind in kinds) + " |", "|---" * (2 + len(kinds)) + "|"]
    for name, shots, mine in _parts(rows, sizes):
        shown = [_verdicts([one["drafts"][kind] for one in mine]) for kind in kinds]
        lines.append("| " + " | ".join([name, str(shots), *shown]) + " |")
    return "\n".join(
        [*lines, "", "In brackets the mean gain on the test rows, in points: of all runs; of those that took the drafts."]
    )


def _verdicts(found: Sequence[dict[str, Any]]) -> str:
    taken = [100 * one["test_gain"] for one in found if one["taken"]]
    gains = f"{np.mean([100 * one['test_gain'] for one in found]):+.1f}" + (f"; {np.mean(taken):+.1f}" if taken else "")
    return f"{len(taken)} of {len(found)} ({gains})"


def _parts(rows: Sequence[Cell], sizes: Sequence[int]) -> list[tuple[str, int, list[Cell]]]:
    found = []
    for shots in sizes:
        mine = [one for one in rows if one["shots"] == shots]
        names = list(dict.fromkeys(one["set"] for one in mine))
        found += [(name, shots, [one for one in mine if one["set"] == name]) for name in names]
        found.append(("all", shots, mine))
    return found


def _mean(rows: Sequence[Cell], key: str) -> float:
    return float(np.mean([one[key] for one in rows if one[key] is not None]))


def _shown(share: dict[str, Any]) -> str:
    return f"{share['value']:.0f}% [{share['low']:.0f}-{share['high']:.0f}]"
