"""What models said of held-out rows, made up for a test."""

from __future__ import annotations

import numpy as np

from refsynth.kinds import ONE_LABEL
from refsynth.learning.held import HeldOut


def held_of(truth, logits, *, folds=None, kind=ONE_LABEL, groups=None):
    """Return answers [R, N, C] by candidate to rows that stand for themselves, in one fold each unless told, all labels met."""
    some = next(iter(logits.values()))
    n = len(truth)
    dealt = np.arange(n) if folds is None else np.asarray(folds)
    dealt = np.repeat(dealt[None], len(some), 0)
    met = np.ones((len(some), n, *some.shape[2:]), bool)
    return HeldOut(truth, dealt, np.arange(n) if groups is None else groups, met, kind, logits)
