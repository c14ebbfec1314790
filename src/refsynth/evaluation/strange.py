"""Chooses the similarity to the training rows below which a text has none of the labels.

The threshold is a split-conformal quantile (Vovk et al., 2005): at most `SHARE` of later texts from the rows' distribution fall
below it. It is set by rows of the labels only. If texts without a label are known (`data.none`), the score is the similarity to
the rows minus that to these texts; how many of them are found is measured with models and thresholds that have not seen them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refsynth.bundle.rules import NoneFacts, NoneRule, OutsideFigures
from refsynth.core.errors import counted
from refsynth.core.intervals import mean_interval
from refsynth.core.types import BoolArray, FloatArray, IntArray
from refsynth.learning.candidates import Candidate
from refsynth.learning.held import HeldOut, HeldOutside

SHARE = 0.05
"""Largest share of real rows that are flagged, on average over samples of the rows."""

LEAST = round(1 / SHARE) - 1
"""Fewest rows that can set a threshold."""


class Strange(NamedTuple):
    """The least score of a text with a label, the rule that set it, and the figures on known texts without a label."""

    threshold: float
    rule: NoneRule
    learned: OutsideFigures | None = None

    @property
    def facts(self) -> NoneFacts:
        """The facts that the manifest records."""
        return NoneFacts(rule=self.rule, learned=self.learned)


def strange_of(held: HeldOut | None, candidate: Candidate) -> Strange | str:
    """Return the threshold for a candidate, or the reason why there is none."""
    if held is None:
        return "no labeled rows were held out to set a threshold"
    if candidate.learner == "tfidf" and held.outside is None:
        return "TF-IDF's similarity to the rows tells less than its confidence; it needs texts under data.none"
    if candidate not in held.near:
        return "similarity to the rows is not measured for pairs of texts, ensembles, or models that ask the reference"
    near, outside = held.near[candidate][0], held.outside
    scores = near if outside is None else outside.rows[candidate][0]
    known = held.met[0][np.arange(len(held.truth)), held.truth.astype(int)]
    threshold = bar_of(scores[known])
    if threshold is None:
        return f"{counted(int(known.sum()), 'held-out row')} cannot set a threshold, which takes {LEAST}"
    flagged = _below(scores, scores, known, held.folds[0], held.folds[0])
    share = mean_interval("flagged", flagged[known].astype(float), held.groups[known], spread=held.spread)
    rule = NoneRule(share=SHARE, rows=int(known.sum()), flagged=share.value, low=share.low, high=share.high)
    return Strange(threshold, rule, None if outside is None else _learned(held, outside, candidate, known))


def _learned(held: HeldOut, outside: HeldOutside, candidate: Candidate, known: BoolArray) -> OutsideFigures:
    """Return how many known texts without a label are found, cross-fitted."""
    row_folds, text_folds, near = held.folds[0], outside.folds[0], held.near[candidate][0]
    hits = _below(outside.texts[candidate][0], outside.rows[candidate][0], known, text_folds, row_folds)
    share = mean_interval("found", hits.astype(float), outside.groups, spread=held.spread)
    alone = _below(outside.alone[candidate][0], near, known, text_folds, row_folds)
    return OutsideFigures(texts=len(hits), found=share.value, low=share.low, high=share.high, alone=float(alone.mean()))


def bar_of(near: FloatArray) -> float | None:
    """Return the threshold from the scores of N rows [N]; None if there are too few rows."""
    rank = int(SHARE * (len(near) + 1))
    return float(np.sort(near)[rank - 1]) if rank else None


def _below(scores: FloatArray, rows: FloatArray, known: BoolArray, folds: IntArray, row_folds: IntArray) -> BoolArray:
    """Return whether each score [M] is below the threshold set by the known rows [N] of the other folds.

    No score is if these rows are too few.
    """
    below = np.zeros(len(scores), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        threshold = bar_of(rows[(row_folds != fold) & known])
        below[inside] = False if threshold is None else scores[inside] < threshold
    return below
