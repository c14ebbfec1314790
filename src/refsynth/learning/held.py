"""Predictions for held-out rows, and the scores of the models that made them.

A row is one observation, however many repeats predict it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from refsynth.core.intervals import cross_validated, exceeds_doubt, mean_interval, paired_gain
from refsynth.core.types import Array, BoolArray, FloatArray, IntArray, Metric
from refsynth.data.split import parts
from refsynth.kinds import Kind, given_labels
from refsynth.learning.candidates import Candidate
from refsynth.learning.rows import Rows


class HeldOutside(NamedTuple):
    """Similarities of M texts that none of the labels fits, and of N rows, to models that were fitted without them.

    Attributes:
        folds: the fold of each text in each repeat [R, M].
        groups: the group of near-duplicates of each text [M].
        rows: for each candidate [R, N], how similar a row is to its nearest label's rows, less its similarity to such texts.
        texts: for each candidate [R, M], the same for each text.
        alone: for each candidate [R, M], how similar a text is to its nearest label's rows, with nothing taken off.
    """

    folds: IntArray
    groups: IntArray
    rows: Mapping[Candidate, Array]
    texts: Mapping[Candidate, Array]
    alone: Mapping[Candidate, Array]


@dataclass(frozen=True)
class HeldOut:
    """The predictions of each candidate for each held-out row: logits [R, N, C] over R repeats, for spans [R, N].

    Attributes:
        truth: the true answer of each row, in the form of the task kind.
        folds: the fold of each row [R, N]; thresholds for a fold are tuned on predictions for the other folds.
        groups: the group of near-duplicates of each row [N]; rows of one group are not independent.
        met: which classes C the model that predicted a row had seen in training [R, N, C].
        kind: the task kind.
        logits: the logits by candidate.
        int8: the logits of candidates with an encoder in int8, as they would ship; calibration uses these.
        near: how similar each row is to the other rows of its nearest label [R, N], by candidate, in the arithmetic that ships.
        outside: the same for texts that none of the labels fits; None without any.
    """

    truth: Array
    folds: IntArray
    groups: IntArray
    met: BoolArray
    kind: Kind
    logits: Mapping[Candidate, Array] = field(default_factory=dict)
    int8: Mapping[Candidate, Array] = field(default_factory=dict)
    near: Mapping[Candidate, Array] = field(default_factory=dict)
    outside: HeldOutside | None = None

    @classmethod
    def of(cls, rows: Rows, labels: tuple[str, ...], dealt: IntArray) -> Self:
        """Return rows in folds [R, N] without predictions."""
        given = given_labels(rows.examples)
        met = []
        for folds in dealt:
            by_fold = {part.fold: rows.kind.learnable(given_labels(part.train), labels) for part in parts(rows.examples, folds)}
            met.append(np.array([by_fold[int(fold)] for fold in folds], bool))
        return cls(rows.kind.truth(given, labels), dealt, rows.groups, np.array(met), rows.kind)

    def as_shipped(self, candidate: Candidate) -> Array:
        """Return the logits of a candidate in the arithmetic that ships."""
        return self.int8.get(candidate, self.logits[candidate])

    def scores(self, candidate: Candidate) -> FloatArray:
        """Return the score of each row [N], the mean over repeats: the share of right answers if a row has one label."""
        return self.scores_of(self.logits[candidate])

    def score(self, candidate: Candidate) -> Metric:
        """Return the cross-validated score with its interval."""
        return self.score_of(self.logits[candidate])

    def score_of(self, logits: Array) -> Metric:
        """Return the cross-validated score of a form of a candidate with its interval, by logits [R, N, C]."""
        return mean_interval(f"cross-validated {self.kind.measure}", self.scores_of(logits), self.groups, spread=self.spread)

    @property
    def spread(self) -> float:
        """The factor by which a score over these rows varies more than the rows do: see `core.intervals`."""
        return cross_validated(len(np.unique(self.folds[0])))

    def scores_of(self, logits: Array) -> FloatArray:
        """Return the score of each row [N], the mean over repeats, by logits [R, N, C]."""
        return np.asarray(np.mean([self.kind.scores(self.truth, answers) for answers in self.answers_of(logits)], axis=0))

    def gain(self, base: FloatArray, other: FloatArray) -> Metric:
        """Return the mean difference of the scores [N] `other` and `base`, paired by row, with its interval."""
        return paired_gain(base, other, self.groups)

    def exceeds(self, base: FloatArray, other: FloatArray, *, doubt: float) -> bool:
        """Return whether that gain is more than `doubt` standard errors, over groups of near-duplicates."""
        of_group = np.unique(self.groups, return_inverse=True)[1]
        return exceeds_doubt(np.asarray(np.bincount(of_group, weights=other - base), float), doubt=doubt)

    def answers_of(self, logits: Array, *, apart: BoolArray | None = None) -> list[Array]:
        """Return the answers in each repeat; the thresholds for a fold are tuned on the other folds of the repeat.

        Thresholds are not tuned on the rows `apart` [R, N].
        """
        if not self.kind.several:
            return [self.kind.decide(self.kind.probabilities(repeat)) for repeat in logits]
        out = np.zeros(logits.shape, int)
        for repeat, folds in enumerate(self.folds):
            for fold in np.unique(folds):
                mine = folds == fold
                others = ~mine if apart is None else ~(mine | apart[repeat])
                cuts = self.kind.thresholds(logits[repeat, others], self.truth[others], self.met[repeat, others])
                out[repeat, mine] = self.kind.decide(logits[repeat, mine], cuts)
        return list(out)

    def cuts_of(self, logits: Array) -> FloatArray | None:
        """Return the cuts on logits [K] that suit all rows, where they are needed: the mean of those of each repeat."""
        cuts = [self.kind.thresholds(said, self.truth, met) for said, met in zip(logits, self.met, strict=True)]
        found = [each for each in cuts if each is not None]
        return np.asarray(np.mean(found, axis=0)) if found else None

    def fair(self, logits: Array) -> BoolArray:
        """Return whether the model that answered a row could have been right [R, N]: see `Kind.fair`."""
        return np.array([self.kind.answerable(*each) for each in zip(logits, [self.truth] * len(logits), self.met, strict=True)])

    def counts(self, rows: BoolArray) -> float:
        """Return the weight of each of the rows [N] as an observation, at most 1: near-duplicates count together as one row.

        N rows in groups of m rows each are as many observations as N^2 / sum(m^2) rows (Kish, 1965, section 5.4).
        """
        sizes = np.unique(self.groups[rows], return_counts=True)[1]
        return float(sizes.sum() / (sizes**2).sum())

    def differences(self, base: Array, other: Array) -> FloatArray:
        """Return each row's gain [N] from `base` to `other` logits [R, N, C], the mean over repeats: see `Kind.differences`."""
        pairs = zip(self.answers_of(base), self.answers_of(other), strict=True)
        return np.asarray(np.mean([self.kind.differences(self.truth, *pair) for pair in pairs], axis=0))
