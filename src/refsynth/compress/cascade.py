"""When a fast tier may answer instead of the next one: a threshold on its confidence, with a certificate.

Learn-then-Test with fixed-sequence testing (Angelopoulos et al., 2021, arXiv:2110.01052): thresholds are tested from the
strictest down, each by an exact binomial test of "more than the share alpha of all texts is answered otherwise than the next tier
would", and the first that is not rejected ends it. The order does not depend on the texts, so no correction is paid, and the
chance that the chosen threshold breaks alpha is at most delta. Texts need no labels. Knows nothing of models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.extras import require
from refsynth.core.types import FloatArray

THRESHOLDS = 1 / (1 + np.exp(-np.linspace(9.0, -4.0, 261)))
"""In the order of testing, evenly spaced in log-odds; fixed before any text is seen."""

LEAST_SHARE = 0.1
"""A first tier that answers less than this costs more than it saves, once errors of measurement are counted."""


class Certified(NamedTuple):
    """A threshold that passed, and of the texts it was tested on how many it answers, and how many of those otherwise."""

    threshold: float
    answered: int
    disagreed: int


def least_texts(alpha: float, delta: float) -> int:
    """Return the fewest texts by which any threshold can be certified: (1 - alpha)^n <= delta."""
    return int(np.ceil(np.log(delta) / np.log1p(-alpha)))


def certify(confidence: FloatArray, disagrees: NDArray[np.bool_], *, alpha: float, delta: float) -> Certified | None:
    """Return the lowest certified threshold, or None where none is, or none that answers enough to be worth it.

    Args:
        confidence: of the fast tier [N], on texts that neither tier has seen.
        disagrees: whether the next tier says another label [N].
        alpha: the largest share of all texts that may be answered otherwise.
        delta: the chance that this is broken, over the draw of the texts.
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
