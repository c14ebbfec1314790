"""From how like the other rows each held-out row was to the bar below which a text is about none of the labels.

The bar is a split-conformal quantile (Vovk et al., 2005): of later texts that are drawn like the rows at most `SHARE` fall below.
No strange text has a part in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refsynth.bundle.none import NoneRule
from refsynth.core.intervals import mean_interval
from refsynth.core.types import BoolArray, FloatArray
from refsynth.learning.candidates import Candidate
from refsynth.learning.held import HeldOut

SHARE = 0.05
"""Of real rows that are flagged, at most: on average, over draws of the rows."""


class Strange(NamedTuple):
    """The least cosine of a text that is about one of the labels, and the rule in words."""

    threshold: float
    rule: NoneRule


def strange_of(held: HeldOut | None, candidate: Candidate) -> Strange | None:
    """Return the bar for a candidate; None where there are too few rows for one, or its features have no mean."""
    if held is None or candidate not in held.near:
        return None
    near, known = held.near[candidate][0], held.met[0][np.arange(len(held.truth)), held.truth.astype(int)]
    threshold = bar_of(near[known])
    if threshold is None:
        return None
    flagged = _crossed(near, known, held)
    found = mean_interval("flagged", flagged[known].astype(float), held.groups[known], spread=held.spread)
    rule = NoneRule(share=SHARE, rows=int(known.sum()), flagged=found.value, low=found.low, high=found.high)
    return Strange(threshold, rule)


def bar_of(near: FloatArray) -> float | None:
    """Return the value that at most `SHARE` of later rows are below; None where so few rows [N] know of none."""
    rank = int(SHARE * (len(near) + 1))
    return float(np.sort(near)[rank - 1]) if rank else None


def _crossed(near: FloatArray, known: BoolArray, held: HeldOut) -> BoolArray:
    """Return which rows [N] fall below the bar that the other folds give, none where these are too few."""
    out = np.zeros(len(near), bool)
    for fold in np.unique(held.folds[0]):
        mine = held.folds[0] == fold
        bar = bar_of(near[~mine & known])
        out[mine] = False if bar is None else near[mine] < bar
    return out
