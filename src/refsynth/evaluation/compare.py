"""Compares two runs on the rows that both held out.

Test rows are not used: a test set that chooses between runs no longer measures the chosen one.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refsynth.core.config import RunConfig
from refsynth.core.errors import InputError, counted
from refsynth.core.files import damaged
from refsynth.core.intervals import cross_validated, mean_interval, paired_gain
from refsynth.core.record import recorded
from refsynth.core.types import FloatArray, Metric
from refsynth.data.text import near_groups
from refsynth.evaluation.headline import points
from refsynth.evaluation.heldout import FILE, read_rows
from refsynth.evaluation.mistakes import HeldRow
from refsynth.kinds import KINDS


@dataclass(frozen=True)
class Side:
    """The held-out rows of a run, and its configuration."""

    rows: Sequence[HeldRow]
    config: RunConfig

    @property
    def measure(self) -> str:
        """The name of its score; for token classification, whether all spans of a row are right."""
        kind = KINDS[self.config.task]
        return "exact match" if kind.words else kind.measure

    def score(self, rows: Sequence[HeldRow]) -> Metric:
        """Return the mean score of some of its rows, with its interval."""
        groups = near_groups([row.text for row in rows])
        return mean_interval(self.measure, _scores(rows), groups, spread=cross_validated(self.config.gate.folds))


@dataclass(frozen=True)
class Compared:
    """The comparison of two runs on the rows, with the same text and label, that both held out.

    Attributes:
        own: each run's score on all its held-out rows.
        both: each run's score on the common rows.
        gain: score of the second minus score of the first on the common rows, paired by row.
        won: number of common rows that only the second answers correctly.
        lost: number of common rows that only the first answers correctly.
        n: number of common rows.
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
        """Which run is better, in two sentences."""
        first, second = self.names
        gain = f"{second} over {first}: {points(self.gain)} on the {counted(self.n, 'row')} that both held out"
        if self.gain.low > 0:
            return f"{second} is better. {gain}."
        return (
            f"{first} is better. {gain}." if self.gain.high < 0 else f"The difference is not distinguishable from chance. {gain}."
        )


def compare_runs(first: Path, second: Path) -> Compared:
    """Compare two runs.

    Raises:
        InputError: one is not a finished run or has no held-out rows, or the two have no row or no measure in common.
    """
    one, other = _side(first), _side(second)
    if one.measure != other.measure or one.config.task != other.config.task:
        raise InputError(
            f"{first} and {second} cannot be compared: task {one.config.task} and task {other.config.task}",
            expected="two runs of one kind of task",
        )
    common = _common(one.rows, other.rows)
    if not common:
        raise InputError(
            f"{first} and {second} cannot be compared: no row with the same text and label was held out by both",
            expected="two runs with labeled rows in common",
            remedy="refsynth evaluate measures each bundle on a file of its own",
        )
    ones, others = (list(rows) for rows in zip(*common, strict=True))
    groups = near_groups([row.text for row in ones])
    pairs = [(left.right, right.right) for left, right in common]
    return Compared(
        names=(str(first), str(second)),
        own=(one.score(one.rows), other.score(other.rows)),
        both=(one.score(ones), other.score(others)),
        gain=replace(paired_gain(_scores(ones), _scores(others), groups), name="gain"),
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
            f"{run}: no held-out rows to compare by ({FILE} is missing)",
            expected="a finished run that measured the shipped model on held-out rows",
            remedy="run it again; runs from label names alone, and static students, cannot be compared",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged(run / FILE, type(error).__name__) from error
    if not rows:
        raise InputError(f"{run / FILE}: no rows", remedy="run the same command again")
    return Side(rows, config)


def _common(rows: Sequence[HeldRow], others: Sequence[HeldRow]) -> list[tuple[HeldRow, HeldRow]]:
    """Return the pairs of rows with the same text and label, in the order of the first run. No run has such a row twice."""
    by_text = {(row.text, row.label): row for row in others}
    return [(row, by_text[row.text, row.label]) for row in rows if (row.text, row.label) in by_text]


def _scores(rows: Sequence[HeldRow]) -> FloatArray:
    return np.array([row.score for row in rows], float)
