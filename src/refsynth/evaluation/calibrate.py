"""What makes a model's confidence mean something: temperature, threshold and cuts, fitted to what it said of held-out rows.

What is told of them is cross-fitted: each row is answered with a temperature, a threshold and cuts that suit the other folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.rules import UnsureRule
from refsynth.core.intervals import mean_interval
from refsynth.core.types import Array, BoolArray, FloatArray
from refsynth.evaluation.calibration import TARGET, Threshold, fit_temperature, threshold_of
from refsynth.evaluation.confidence import ThresholdChoice
from refsynth.kinds.spans import ragged
from refsynth.learning.held import HeldOut

CHOICES = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Accuracies that the report shows the threshold for, beside the one that was asked for."""


class Crossed(NamedTuple):
    """What becomes of held-out rows that took no part in what they are answered with: those of the first repeat, each once.

    `rows` [N] are those that a model could have been right about, M of them; of these, in their order, the calibrated
    `probabilities` [M, C], the `answers` [M], whether they are `right` [M] and whether the model was `unsure` [M].
    """

    rows: BoolArray
    probabilities: Array
    answers: Array
    right: BoolArray
    unsure: BoolArray

    @property
    def coverage(self) -> float:
        """The share answered."""
        return float(np.mean(~self.unsure))

    @property
    def risk(self) -> float | None:
        """The share of wrong answers among those given; None if none were."""
        return None if self.unsure.all() else float(np.mean(~self.right[~self.unsure]))


@dataclass(frozen=True)
class Calibrated:
    """The temperature and threshold fitted on held-out rows; without such rows 1 and none.

    `cuts` are the calibrated probabilities [K] from which on each label is said, where a row may have any number of them.
    `left_out` counts the rows that took no part: no model that was asked about them had met their label, or read their words.
    `crossed` is what the figures are of; `choices` are what other accuracies would give.
    """

    temperature: float
    threshold: Threshold | None
    cuts: tuple[float, ...] = ()
    left_out: int = 0
    crossed: Crossed | None = None
    choices: tuple[ThresholdChoice, ...] = ()

    @property
    def rule(self) -> UnsureRule | None:
        """How the threshold was chosen; None where no rows chose it."""
        found = self.threshold
        return None if found is None else UnsureRule(accuracy=found.target, rows=found.n, reached=found.basis == "measured")

    def manifest(self) -> Calibration:
        """Return what the bundle's manifest records."""
        if self.threshold is None or self.crossed is None:
            return Calibration(temperature=self.temperature, thresholds=self.cuts)
        return Calibration(
            temperature=self.temperature,
            threshold=self.threshold.threshold,
            risk=self.crossed.risk,
            coverage=self.crossed.coverage,
            thresholds=self.cuts,
        )


class Scaled(NamedTuple):
    """A temperature, and the answers that a threshold can be chosen by, with it.

    Of M answers to `n` rows: whether they are `right` [M], how `sure` they are [M], and what each counts as an observation [M].
    """

    temperature: float
    right: Array
    sure: Array
    observed: Array
    n: int

    def threshold(self, target: float) -> Threshold | None:
        """Return the threshold for an accuracy; None where there are no rows to choose it by."""
        return threshold_of(self.right, self.sure, self.observed, n=self.n, target=target) if self.n else None


def calibrate(held: HeldOut | None, said: Array | None, *, target: float = TARGET) -> Calibrated:
    """Fit temperature, threshold and cuts to what the model said of rows that were held out, logits [R, N, C].

    `target` is the share of right answers among those given that the threshold is chosen for.
    """
    if held is None or said is None:
        return Calibrated(1.0, None)
    answers, fair = held.answers_of(said), held.fair(said)
    found = _scale(held, said, answers, fair)
    cuts, calm = held.cuts_of(said), _Crossing.of(held, said, answers, fair)
    return Calibrated(
        found.temperature,
        found.threshold(target),
        () if cuts is None else tuple(held.kind.probabilities(cuts / found.temperature).tolist()),
        left_out=int((~fair.any(0)).sum()),
        crossed=None if calm is None else calm.crossed(target),
        choices=() if calm is None else tuple(_choice(held, calm, found, each) for each in sorted({*CHOICES, target})),
    )


def _scale(held: HeldOut, said: Array, answers: Sequence[Array], rows: BoolArray) -> Scaled:
    """Fit a temperature to some answers, `rows` [R, N]; a row counts as one, in equal parts for each time it was answered."""
    kind, times = held.kind, np.maximum(rows.sum(0), 1)
    if not rows.any():
        return Scaled(1.0, np.zeros(0), np.zeros(0), np.zeros(0), 0)
    values, truth, weights, picked = [], [], [], []
    asked = [(repeat, mine) for repeat, mine in enumerate(rows) if mine.any()]
    for repeat, mine in asked:
        choices = kind.choices(said[repeat][mine], held.truth[mine], held.met[repeat][mine])
        values.append(choices.values)
        truth.append(choices.truth)
        weights.append(1 / times[mine][choices.rows])
        picked.append(1 / times[mine])
    temperature = fit_temperature(np.concatenate(values), np.concatenate(truth), np.concatenate(weights))
    right, sure = [], []
    for repeat, mine in asked:
        mine_said = answers[repeat][mine]
        right.append(kind.right(held.truth[mine], mine_said))
        sure.append(kind.confidence(kind.probabilities(said[repeat][mine] / temperature), mine_said))
    known = np.asarray(rows.any(0))
    observed = np.concatenate(picked) * held.counts(known)
    return Scaled(temperature, np.concatenate(right), np.concatenate(sure), observed, int(known.sum()))


class _Crossing(NamedTuple):
    """Each row of the first repeat with what suits the other folds: probabilities, answers, how sure they are, who says so."""

    held: HeldOut
    rows: BoolArray
    probabilities: Array
    answers: Array
    sure: FloatArray
    folds: Mapping[int, Scaled]

    @classmethod
    def of(cls, held: HeldOut, said: Array, answers: Sequence[Array], fair: BoolArray) -> Self | None:
        """Return None if no row can be answered fairly."""
        rows = fair[0]
        if not rows.any():
            return None
        kind, dealt, n = held.kind, held.folds[0], len(rows)
        probabilities, sure, folds = np.empty(n, object), np.zeros(n), {}
        for fold in np.unique(dealt):
            mine = np.flatnonzero(dealt == fold)
            others = np.zeros_like(fair)
            others[0] = rows & (dealt != fold)
            apart = np.broadcast_to(dealt == fold, fair.shape)
            found = _scale(held, said, held.answers_of(said, apart=apart) if kind.several else answers, others)
            calm = kind.probabilities(said[0][mine] / found.temperature)
            for place, row in zip(mine, calm, strict=True):
                probabilities[place] = row
            sure[mine], folds[int(fold)] = kind.confidence(calm, answers[0][mine]), found
        return cls(held, rows, probabilities, answers[0], sure, folds)

    def crossed(self, target: float) -> Crossed:
        """Return what becomes of the rows with thresholds for an accuracy."""
        unsure, kind, rows = np.zeros(len(self.rows), bool), self.held.kind, self.rows
        for fold, found in self.folds.items():
            mine, threshold = self.held.folds[0] == fold, found.threshold(target)
            unsure[mine] = False if threshold is None else self.sure[mine] < threshold.threshold
        right = kind.right(self.held.truth[rows], self.answers[rows]).astype(bool)
        stacked = _stacked(list(self.probabilities[rows]), kind.spans)
        return Crossed(rows, stacked, self.answers[rows], right, unsure[rows])


def _choice(held: HeldOut, calm: _Crossing, found: Scaled, target: float) -> ThresholdChoice:
    """Return what another target would give: its threshold, and what becomes of the rows with those for the other folds."""
    crossed, threshold = calm.crossed(target), found.threshold(target)
    assert threshold is not None
    sure, groups = ~crossed.unsure, held.groups[crossed.rows]
    right = crossed.right[sure].astype(float)
    return ThresholdChoice(
        target=target,
        threshold=threshold.threshold,
        reached=threshold.basis == "measured",
        answered=mean_interval("answered", sure.astype(float), groups),
        accuracy=mean_interval("accuracy", right, groups[sure], spread=held.spread) if sure.any() else None,
    )


def _stacked(rows: list[FloatArray], spans: bool) -> Array:
    return ragged(rows) if spans else np.stack(rows)
