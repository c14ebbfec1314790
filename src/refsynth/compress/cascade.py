"""Chooses the confidence from which a fast tier may answer instead of the next one, with a certificate.

Learn-then-Test with fixed-sequence testing (Angelopoulos et al., 2021, arXiv:2110.01052): thresholds are tested from the
strictest down, each by an exact binomial test of "more than the share alpha of all texts is answered differently than by the next
tier"; the first hypothesis that is not rejected ends the sequence. The order does not depend on the texts, so no correction is
needed, and the chosen threshold breaks alpha with probability at most delta. Texts need no labels. Knows nothing of models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.extras import require
from refsynth.core.types import FloatArray

THRESHOLDS = 1 / (1 + np.exp(-np.linspace(9.0, -4.0, 261)))
"""Thresholds in the order of testing, evenly spaced in log-odds; fixed before any text is seen."""

LEAST_SHARE = 0.1
"""A first tier that answers a smaller share costs more than it saves, if measurement errors are taken into account."""


class Certified(NamedTuple):
    """A threshold that passed, the number of tested texts that it answers, and how many of those it answers differently."""

    threshold: float
    answered: int
    disagreed: int


def least_texts(alpha: float, delta: float) -> int:
    """Return the smallest n that can certify any threshold: (1 - alpha)^n <= delta."""
    return int(np.ceil(np.log(delta) / np.log1p(-alpha)))


def certify(confidence: FloatArray, disagrees: NDArray[np.bool_], *, alpha: float, delta: float) -> Certified | None:
    """Return the lowest certified threshold; None if there is none, or if it answers too few texts.

    Args:
        confidence: the fast tier's confidence on texts that neither tier has seen [N].
        disagrees: whether the next tier answers differently [N].
        alpha: the largest share of all texts that may be answered differently.
        delta: the probability that this is broken, over the draw of the texts.
    """
    stats = require("scipy.stats", extra="train")
    n = len(confidence)
    answered = (confidence[None, :] >= THRESHOLDS[:, None]).sum(1)
    disagreed = (disagrees[None, :] & (confidence[None, :] >= THRESHOLDS[:, None])).sum(1)
    failed = np.flatnonzero(stats.binom.cdf(disagreed, n, alpha) > delta) if n else np.array([0])
    last = int(failed[0]) - 1 if len(failed) else len(THRESHOLDS) - 1
    if last < 0 or answered[last] < LEAST_SHARE * n:
        return None
    return Certified(float(THRESHOLDS[last]), int(answered[last]), int(disagreed[last]))
