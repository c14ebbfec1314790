"""What makes a model's confidence mean something: temperature, threshold and cuts, fitted to what it said of held-out rows.

What is told of them is cross-fitted: each row is answered with a temperature, a threshold and cuts that suit the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.core.types import Array, BoolArray, FloatArray
from refsynth.evaluation.calibration import Threshold, fit_temperature, threshold_of
from refsynth.kinds.spans import ragged
from refsynth.pipeline.held import HeldOut


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
    `crossed` is what the figures are of.
    """

    temperature: float
    threshold: Threshold | None
    cuts: tuple[float, ...] = ()
    left_out: int = 0
    crossed: Crossed | None = None

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


class Fitted(NamedTuple):
    """A temperature, and a threshold where there are rows to choose it by."""

    temperature: float
    threshold: Threshold | None


def calibrate(held: HeldOut | None, said: Array | None) -> Calibrated:
    """Fit temperature, threshold and cuts to what the model said of rows that were held out, logits [R, N, C]."""
    if held is None or said is None:
        return Calibrated(1.0, None)
    answers, fair = held.answers_of(said), held.fair(said)
    found = _fit(held, said, answers, fair)
    cuts = held.cuts_of(said)
    return Calibrated(
        found.temperature,
        found.threshold,
        () if cuts is None else tuple(held.kind.probabilities(cuts / found.temperature).tolist()),
        left_out=int((~fair.any(0)).sum()),
        crossed=_cross(held, said, answers, fair),
    )


def _fit(held: HeldOut, said: Array, answers: Sequence[Array], rows: BoolArray) -> Fitted:
    """Fit to some answers, `rows` [R, N]; a row counts as one, in equal parts for each time that it was answered."""
    kind, times = held.kind, np.maximum(rows.sum(0), 1)
    if not rows.any():
        return Fitted(1.0, None)
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
    n = int(known.sum())
    return Fitted(temperature, threshold_of(np.concatenate(right), np.concatenate(sure), observed, n=n))


def _cross(held: HeldOut, said: Array, answers: Sequence[Array], fair: BoolArray) -> Crossed | None:
    """Answer each row of the first repeat with what suits the other folds of it; None if no row can be answered fairly."""
    rows = fair[0]
    if not rows.any():
        return None
    kind, dealt, n = held.kind, held.folds[0], len(rows)
    probabilities, unsure = np.empty(n, object), np.zeros(n, bool)
    for fold in np.unique(dealt):
        mine = np.flatnonzero(dealt == fold)
        others = np.zeros_like(fair)
        others[0] = rows & (dealt != fold)
        apart = np.broadcast_to(dealt == fold, fair.shape)
        found = _fit(held, said, held.answers_of(said, apart=apart) if kind.several else answers, others)
        calm = kind.probabilities(said[0][mine] / found.temperature)
        for place, row in zip(mine, calm, strict=True):
            probabilities[place] = row
        if found.threshold is not None:
            unsure[mine] = kind.confidence(calm, answers[0][mine]) < found.threshold.threshold
    right = kind.right(held.truth[rows], answers[0][rows]).astype(bool)
    return Crossed(rows, _stacked(list(probabilities[rows]), kind.spans), answers[0][rows], right, unsure[rows])


def _stacked(rows: list[FloatArray], spans: bool) -> Array:
    return ragged(rows) if spans else np.stack(rows)
