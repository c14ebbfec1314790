"""What models said of rows that were held out, and what that says of the models.

One row is one observation, however often it is asked about.
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
    """What models that learned from some of M texts that none of the labels fits said of the others, and of held-out rows.

    `folds` [R, M] and `groups` [M] are those of the texts. By candidate: `rows` [R, N], how like a label's rows each row was,
    less how like such texts; `texts` [R, M] the same of each text; and `alone` [R, M] how like a label's rows it was.
    """

    folds: IntArray
    groups: IntArray
    rows: Mapping[Candidate, Array]
    texts: Mapping[Candidate, Array]
    alone: Mapping[Candidate, Array]


@dataclass(frozen=True)
class HeldOut:
    """What each candidate said of each real row when it was held out: logits [R, N, C] over R repeats, of spans [R, N].

    Attributes:
        truth: of the rows, as their kind has it.
        folds: [R, N] those that were held out together: what is tuned on answers is tuned on those to the other folds.
        groups: [N] of near-duplicates, which are no independent rows.
        met: [R, N, C] of which logits the model that answered a row had learned anything.
        kind: of the task.
        logits: by candidate.
        int8: what those with an encoder say as they would ship, which is what they are calibrated on.
        near: how like the other rows of a label each row was to those that can tell, [R, N], in the arithmetic that ships.
        outside: what is known of texts that none of the labels fits; None without any.
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
        """Return what is known of rows in folds [R, N] before anybody has answered."""
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
        """Return how far the answer for each row was right, the mean over repeats [N]: 0 or 1 where a row has one label."""
        return self.scores_of(self.logits[candidate])

    def score(self, candidate: Candidate) -> Metric:
        """Return the cross-validated mean of `scores`."""
        return self.score_of(self.logits[candidate])

    def score_of(self, logits: Array) -> Metric:
        """Return the same of a form of a candidate, by its logits [R, N, C]."""
        return mean_interval(f"cross-validated {self.kind.measure}", self.scores_of(logits), self.groups, spread=self.spread)

    @property
    def spread(self) -> float:
        """By what factor a score over these rows varies more than the rows do: see `core.intervals`."""
        return cross_validated(len(np.unique(self.folds[0])))

    def scores_of(self, logits: Array) -> FloatArray:
        """Return the scores of answers by their logits [R, N, C], the mean over repeats [N]."""
        return np.asarray(np.mean([self.kind.scores(self.truth, answers) for answers in self.answers_of(logits)], axis=0))

    def gain(self, base: FloatArray, other: FloatArray) -> Metric:
        """Return the mean of what one scored above another, paired by row [N]."""
        return paired_gain(base, other, self.groups)

    def exceeds(self, base: FloatArray, other: FloatArray, *, doubt: float) -> bool:
        """Return whether that gain is more than so many of its standard errors, over groups of near-duplicates."""
        of_group = np.unique(self.groups, return_inverse=True)[1]
        return exceeds_doubt(np.asarray(np.bincount(of_group, weights=other - base), float), doubt=doubt)

    def answers_of(self, logits: Array, *, apart: BoolArray | None = None) -> list[Array]:
        """Return the answers of each repeat; those to a fold with cuts that suit the other folds of the repeat.

        Rows that are `apart` [R, N] have no part in cuts.
        """
        if not self.kind.several:
            return [self.kind.decide(self.kind.probabilities(each)) for each in logits]
        out = np.zeros(logits.shape, int)
        for repeat, dealt in enumerate(self.folds):
            for fold in np.unique(dealt):
                mine = dealt == fold
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
        """Return what each of some rows [N] counts as an observation, at most 1: near-duplicates count together as one row.

        N rows in groups of m rows each are as many observations as N^2 / sum(m^2) rows (Kish, 1965, section 5.4).
        """
        sizes = np.unique(self.groups[rows], return_counts=True)[1]
        return float(sizes.sum() / (sizes**2).sum())

    def differences(self, base: Array, other: Array) -> FloatArray:
        """Return what rows say for other logits than base ones [R, N, C], the mean over repeats [N]: see `Kind.differences`."""
        pairs = zip(self.answers_of(base), self.answers_of(other), strict=True)
        return np.asarray(np.mean([self.kind.differences(self.truth, *pair) for pair in pairs], axis=0))
