"""Fits temperature, abstention threshold and decision thresholds (`cuts`) to a model's logits on held-out rows.

Reported figures are cross-fitted: each row is answered with the temperature and thresholds fitted on the other folds.
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
from refsynth.evaluation.calibration import TARGET, Threshold, fit_temperature, rule_of, threshold_of
from refsynth.evaluation.confidence import ThresholdChoice
from refsynth.kinds.spans import ragged
from refsynth.learning.held import HeldOut

CHOICES = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Accuracies whose thresholds the report shows, besides the one in the task."""


class Crossed(NamedTuple):
    """The cross-fitted results on the held-out rows of the first repeat.

    Attributes:
        rows: whether a model could have been right about the row [N]; M rows are so.
        probabilities: calibrated, of these rows [M, C].
        answers: to these rows [M].
        right: whether the answer is right [M].
        unsure: whether the model abstains [M].
    """

    rows: BoolArray
    probabilities: Array
    answers: Array
    right: BoolArray
    unsure: BoolArray

    @property
    def coverage(self) -> float:
        """The share of rows that are answered."""
        return float(np.mean(~self.unsure))

    @property
    def risk(self) -> float | None:
        """The share of wrong answers among the answered rows; None if there are none."""
        return None if self.unsure.all() else float(np.mean(~self.right[~self.unsure]))


@dataclass(frozen=True)
class Calibrated:
    """The calibration of a model.

    Attributes:
        temperature: fitted on held-out rows; 1 without such rows.
        threshold: for abstention; None without such rows.
        cuts: decision thresholds on calibrated probabilities [K], if a row may have any number of labels.
        left_out: number of rows that took no part: no model that predicted them had seen their label, or read all their words.
        crossed: the cross-fitted results, from which the figures are computed.
        choices: the results for other target accuracies.
    """

    temperature: float
    threshold: Threshold | None
    cuts: tuple[float, ...] = ()
    left_out: int = 0
    crossed: Crossed | None = None
    choices: tuple[ThresholdChoice, ...] = ()

    @property
    def rule(self) -> UnsureRule | None:
        """How the threshold was chosen; None if no rows chose it."""
        return None if self.threshold is None else rule_of(self.threshold)

    def manifest(self) -> Calibration:
        """Return the calibration that the bundle's manifest records."""
        if self.threshold is None or self.crossed is None:
            return Calibration(temperature=self.temperature, thresholds=self.cuts)
        return Calibration(
            temperature=self.temperature,
            threshold=self.threshold.threshold,
            risk=self.crossed.risk,
            coverage=self.crossed.coverage,
            thresholds=self.cuts,
        )


class _Scaled(NamedTuple):
    """A temperature, and M answers to `n` rows, from which a threshold can be chosen.

    `right` [M] tells whether an answer is right; `confidence` [M] uses the temperature; `weights` [M] count observations.
    """

    temperature: float
    right: Array
    confidence: Array
    weights: Array
    n: int

    def threshold(self, target: float) -> Threshold | None:
        """Return the threshold for a target accuracy; None without rows."""
        return threshold_of(self.right, self.confidence, self.weights, n=self.n, target=target) if self.n else None


def calibrate(held: HeldOut | None, logits: Array | None, *, target: float = TARGET) -> Calibrated:
    """Fit temperature and thresholds to a model's logits on held-out rows [R, N, C].

    Args:
        held: the results of cross-validation.
        logits: of the model on the held-out rows [R, N, C].
        target: accuracy asked for on the answered rows.
    """
    if held is None or logits is None:
        return Calibrated(1.0, None)
    answers, fair = held.answers_of(logits), held.fair(logits)
    scaled = _scale(held, logits, answers, fair)
    cuts, crossing = held.cuts_of(logits), _Crossing.of(held, logits, answers, fair)
    targets = sorted({*CHOICES, target})
    return Calibrated(
        scaled.temperature,
        scaled.threshold(target),
        () if cuts is None else tuple(held.kind.probabilities(cuts / scaled.temperature).tolist()),
        left_out=int((~fair.any(0)).sum()),
        crossed=None if crossing is None else crossing.crossed(target),
        choices=() if crossing is None else tuple(_choice(held, crossing, scaled, other) for other in targets),
    )


def _scale(held: HeldOut, logits: Array, answers: Sequence[Array], rows: BoolArray) -> _Scaled:
    """Fit a temperature to the predictions chosen by `rows` [R, N]. Each row has weight 1, shared by its predictions."""
    kind, times = held.kind, np.maximum(rows.sum(0), 1)
    if not rows.any():
        return _Scaled(1.0, np.zeros(0), np.zeros(0), np.zeros(0), 0)
    values, truth, weights, row_weights = [], [], [], []
    repeats = [(repeat, chosen) for repeat, chosen in enumerate(rows) if chosen.any()]
    for repeat, chosen in repeats:
        choices = kind.choices(logits[repeat][chosen], held.truth[chosen], held.met[repeat][chosen])
        values.append(choices.values)
        truth.append(choices.truth)
        weights.append(1 / times[chosen][choices.rows])
        row_weights.append(1 / times[chosen])
    temperature = fit_temperature(np.concatenate(values), np.concatenate(truth), np.concatenate(weights))
    right, confidence = [], []
    for repeat, chosen in repeats:
        answer = answers[repeat][chosen]
        right.append(kind.right(held.truth[chosen], answer))
        confidence.append(kind.confidence(kind.probabilities(logits[repeat][chosen] / temperature), answer))
    known = np.asarray(rows.any(0))
    observed = np.concatenate(row_weights) * held.counts(known)
    return _Scaled(temperature, np.concatenate(right), np.concatenate(confidence), observed, int(known.sum()))


class _Crossing(NamedTuple):
    """The rows of the first repeat with the calibration fitted on the other folds; `folds` has that calibration by fold."""

    held: HeldOut
    rows: BoolArray
    probabilities: Array
    answers: Array
    confidence: FloatArray
    folds: Mapping[int, _Scaled]

    @classmethod
    def of(cls, held: HeldOut, logits: Array, answers: Sequence[Array], fair: BoolArray) -> Self | None:
        """Return the cross-fitted rows; None if no row can be answered fairly."""
        rows = fair[0]
        if not rows.any():
            return None
        kind, fold_of, n = held.kind, held.folds[0], len(rows)
        probabilities, confidence, folds = np.empty(n, object), np.zeros(n), {}
        for fold in np.unique(fold_of):
            inside = np.flatnonzero(fold_of == fold)
            others = np.zeros_like(fair)
            others[0] = rows & (fold_of != fold)
            apart = np.broadcast_to(fold_of == fold, fair.shape)
            scaled = _scale(held, logits, held.answers_of(logits, apart=apart) if kind.several else answers, others)
            calibrated = kind.probabilities(logits[0][inside] / scaled.temperature)
            for place, row in zip(inside, calibrated, strict=True):
                probabilities[place] = row
            confidence[inside], folds[int(fold)] = kind.confidence(calibrated, answers[0][inside]), scaled
        return cls(held, rows, probabilities, answers[0], confidence, folds)

    def crossed(self, target: float) -> Crossed:
        """Return the results with the thresholds for a target accuracy."""
        unsure, kind, rows = np.zeros(len(self.rows), bool), self.held.kind, self.rows
        for fold, scaled in self.folds.items():
            inside, threshold = self.held.folds[0] == fold, scaled.threshold(target)
            unsure[inside] = False if threshold is None else self.confidence[inside] < threshold.threshold
        right = kind.right(self.held.truth[rows], self.answers[rows]).astype(bool)
        kept = list(self.probabilities[rows])
        return Crossed(rows, ragged(kept) if kind.words else np.stack(kept), self.answers[rows], right, unsure[rows])


def _choice(held: HeldOut, crossing: _Crossing, scaled: _Scaled, target: float) -> ThresholdChoice:
    """Return the threshold for another target, and the cross-fitted results with it."""
    crossed, threshold = crossing.crossed(target), scaled.threshold(target)
    assert threshold is not None
    answered, groups = ~crossed.unsure, held.groups[crossed.rows]
    right = crossed.right[answered].astype(float)
    return ThresholdChoice(
        target=target,
        threshold=threshold.threshold,
        reached=threshold.basis == "measured",
        answered=mean_interval("answered", answered.astype(float), groups),
        accuracy=mean_interval("accuracy", right, groups[answered], spread=held.spread) if answered.any() else None,
    )
