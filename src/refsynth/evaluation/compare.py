"""Two runs side by side on the rows that both held out: which of them is better, or that it cannot be told.

Rows of a test file have no part in it. Whoever chooses between runs by them has no test left.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refsynth.core.config import RunConfig
from refsynth.core.errors import InputError, counted
from refsynth.core.intervals import cross_validated, mean_interval, paired_gain
from refsynth.core.record import recorded
from refsynth.core.run import damaged
from refsynth.core.types import FloatArray, Metric
from refsynth.data.text import near_groups
from refsynth.evaluation.headline import points
from refsynth.evaluation.heldout import FILE, read_rows
from refsynth.evaluation.mistakes import HeldRow
from refsynth.kinds import KINDS


@dataclass(frozen=True)
class Side:
    """One run: its held-out rows, its kind of task, and by what factor its scores vary more than rows do."""

    name: str
    rows: Sequence[HeldRow]
    config: RunConfig

    @property
    def measure(self) -> str:
        """What its scores are the mean of: of spans whether a row has just the right ones."""
        kind = KINDS[self.config.task]
        return "exact match" if kind.spans else kind.measure

    def score(self, rows: Sequence[HeldRow]) -> Metric:
        """Return the mean score of some of its rows."""
        groups = near_groups([row.text for row in rows])
        return mean_interval(self.measure, _scores(rows), groups, spread=cross_validated(self.config.gate.folds))


@dataclass(frozen=True)
class Compared:
    """Two runs on the `n` rows, of the same text and label, that both held out.

    `own` is each run's score on all rows that it held out, `both` that on the common ones. `gain` is what the second scores above
    the first there, paired by row. `won` and `lost` count the rows that only the second, and only the first, answers rightly.
    """

    names: tuple[str, str]
    own: tuple[Metric, Metric]
    both: tuple[Metric, Metric]
    gain: Metric
    won: int
    lost: int
    n: int

    @property
    def verdict(self) -> str:
        """Which is better, as one sentence."""
        first, second = self.names
        found = f"{second} over {first}: {points(self.gain)} on the {counted(self.n, 'row')} that both held out"
        if self.gain.low > 0:
            return f"{second} is better. {found}."
        return f"{first} is better. {found}." if self.gain.high < 0 else f"Which is better cannot be told from chance. {found}."


def compare_runs(first: Path, second: Path) -> Compared:
    """Compare two runs.

    Raises:
        InputError: one is no finished run, has no held-out rows, or the two have no row or no measure in common.
    """
    one, other = sides = _side(first), _side(second)
    if one.measure != other.measure or one.config.task != other.config.task:
        raise InputError(
            f"{first} and {second} cannot be compared: task {one.config.task} and task {other.config.task}",
            expected="two runs of one kind of task",
        )
    common = _common(one.rows, other.rows)
    if not common:
        raise InputError(
            f"{first} and {second} cannot be compared: no row with the same text and label was held out by both",
            expected="two runs on the same labeled rows, or on rows of which some are the same",
            remedy="refsynth evaluate measures each bundle on a file of its own",
        )
    mine, theirs = (list(rows) for rows in zip(*common, strict=True))
    groups = near_groups([row.text for row in mine])
    pairs = [(here.right, there.right) for here, there in common]
    return Compared(
        names=(str(first), str(second)),
        own=(one.score(one.rows), other.score(other.rows)),
        both=(sides[0].score(mine), sides[1].score(theirs)),
        gain=replace(paired_gain(_scores(mine), _scores(theirs), groups), name="gain"),
        won=pairs.count((False, True)),
        lost=pairs.count((True, False)),
        n=len(common),
    )


def _side(run: Path) -> Side:
    config = recorded(run)[1]
    try:
        rows = read_rows(run / FILE)
    except FileNotFoundError as error:
        raise InputError(
            f"{run}: no held-out rows to compare by ({FILE} is not there)",
            expected="a finished run that held rows out, of what ships",
            remedy="run it again; from label names alone, and of a static student, nothing can be compared",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged(run / FILE, type(error).__name__) from error
    if not rows:
        raise InputError(f"{run / FILE}: no rows", remedy="run the same command again")
    return Side(str(run), rows, config)


def _common(rows: Sequence[HeldRow], others: Sequence[HeldRow]) -> list[tuple[HeldRow, HeldRow]]:
    """Return the rows of the same text and label, which a run holds once each, in the order of the first run."""
    there = {(row.text, row.label): row for row in others}
    return [(row, there[row.text, row.label]) for row in rows if (row.text, row.label) in there]


def _scores(rows: Sequence[HeldRow]) -> FloatArray:
    return np.array([row.score for row in rows], float)
