"""From how like the other rows each held-out row was to the bar below which a text is about none of the labels.

The bar is a split-conformal quantile (Vovk et al., 2005): of later texts that are drawn like the rows at most `SHARE` fall below.
No strange text has a part in it. Where some are known, what is measured is likeness to rows less likeness to them, and how many
of them are found is told of each by a model and a bar that knew nothing of it.
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
"""Of real rows that are flagged, at most: on average, over draws of the rows."""

LEAST = round(1 / SHARE) - 1
"""Rows that set a bar, at least."""


class Strange(NamedTuple):
    """The least score of a text that is about one of the labels, the rule in words, and what it learned from strange texts."""

    threshold: float
    rule: NoneRule
    learned: OutsideFigures | None = None

    @property
    def facts(self) -> NoneFacts:
        """What a manifest says of it."""
        return NoneFacts(rule=self.rule, learned=self.learned)


def strange_of(held: HeldOut | None, candidate: Candidate) -> Strange | str:
    """Return the bar for a candidate, or why there is none."""
    if held is None:
        return "no labeled rows were held out to set a bar by"
    if candidate.learner == "tfidf" and held.outside is None:
        return "of TF-IDF the likeness to rows alone tells less than the confidence does; it takes texts under data.none"
    if candidate not in held.near:
        return "likeness to rows is not measured of pairs of texts, nor of models that join others or ask the reference"
    alone, apart = held.near[candidate][0], held.outside
    scores = alone if apart is None else apart.rows[candidate][0]
    known = held.met[0][np.arange(len(held.truth)), held.truth.astype(int)]
    threshold = bar_of(scores[known])
    if threshold is None:
        return f"{counted(int(known.sum()), 'held-out row')} cannot set a bar, which takes {LEAST}"
    flagged = _crossed(scores, scores, known, held.folds[0], held.folds[0])
    found = mean_interval("flagged", flagged[known].astype(float), held.groups[known], spread=held.spread)
    rule = NoneRule(share=SHARE, rows=int(known.sum()), flagged=found.value, low=found.low, high=found.high)
    return Strange(threshold, rule, None if apart is None else _learned(held, apart, candidate, known))


def _learned(held: HeldOut, apart: HeldOutside, candidate: Candidate, known: BoolArray) -> OutsideFigures:
    """Return how many of the texts that no label fits are found, each by what knew nothing of it."""
    dealt, strangers, near = held.folds[0], apart.folds[0], held.near[candidate][0]
    hits = _crossed(apart.texts[candidate][0], apart.rows[candidate][0], known, strangers, dealt)
    found = mean_interval("found", hits.astype(float), apart.groups, spread=held.spread)
    alone = _crossed(apart.alone[candidate][0], near, known, strangers, dealt)
    return OutsideFigures(texts=len(hits), found=found.value, low=found.low, high=found.high, alone=float(alone.mean()))


def bar_of(near: FloatArray) -> float | None:
    """Return the value that at most `SHARE` of later rows are below; None where so few rows [N] know of none."""
    rank = int(SHARE * (len(near) + 1))
    return float(np.sort(near)[rank - 1]) if rank else None


def _crossed(asked: FloatArray, rows: FloatArray, known: BoolArray, places: IntArray, folds: IntArray) -> BoolArray:
    """Return which values [M] of the folds `places` fall below the bar that rows [N] of the other `folds` give.

    None does where these are too few.
    """
    out = np.zeros(len(asked), bool)
    for fold in np.unique(places):
        mine = places == fold
        bar = bar_of(rows[(folds != fold) & known])
        out[mine] = False if bar is None else asked[mine] < bar
    return out
