"""Make a model's confidence mean something: one temperature, and the threshold below which it says "unsure".

Both are fitted on logits or probabilities of rows that the model was not trained on. Knows nothing of models.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.extras import require
from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import risk_coverage_of

LIMITS = (0.05, 20.0)
FLOOR = 0.5
TARGET = 0.9
ALPHA = 0.1


def fit_temperature(logits: FloatArray, truth: IntArray, weights: FloatArray | None = None) -> float:
    """Return the temperature T that `softmax(logits / T)` is calibrated with (Guo et al., 2017, section 4.2).

    Minimises the negative log-likelihood over log T within `LIMITS`. Of each row's target, 1 / (N + 2) goes to the strongest
    class beside the truth, as Platt (1999, section 2.2) does for two classes: otherwise a handful of rows that are all right
    would drive T to its lower limit, and every later answer to certainty. The effect vanishes as N grows.

    Args:
        logits: unnormalised log-probabilities [M, K] of held-out rows.
        truth: their labels [M].
        weights: what each counts [M], N in all; 1 if left out. A row that was answered R times counts 1 / R each time.

    Returns:
        T; 1 where the rows say nothing of it (none, or logits that are all equal).
    """
    logits = np.asarray(logits, float)
    if not len(truth) or not np.ptp(logits, axis=1).any():
        return 1.0
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    rows, share, counts = np.arange(len(truth)), 1 / (counts.sum() + 2), counts / counts.sum()
    margin = logits - logits[rows, truth][:, None]  # [N, K], 0 at the truth
    others = margin.copy()
    others[rows, truth] = -np.inf
    rival = others.max(1)

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(counts @ (np.logaddexp.reduce(margin * inverse, axis=1) - share * rival * inverse))

    optimize = require("scipy.optimize", extra="train")
    found = optimize.minimize_scalar(loss, bounds=tuple(np.log(LIMITS)), method="bounded", options={"xatol": 1e-6})
    return float(np.clip(np.exp(found.x), *LIMITS))


class Threshold(NamedTuple):
    """Answer where the confidence is >= `threshold`, say "unsure" elsewhere.

    `risk` is the share of wrong answers among the answered rows, `risk_high` its upper bound (one-sided, 90%), `coverage` the
    share of the `n` rows that is answered. `basis` tells whether the target was met as measured, or not at all (`floor`).
    """

    threshold: float
    coverage: float
    risk: float
    risk_high: float
    n: int
    target: float
    basis: Literal["measured", "floor"]


def risk_bound(errors: float, answered: float) -> float:
    """Return the one-sided 90% upper bound on a share of errors (Clopper and Pearson, 1934).

    Counts may be fractions, where a row was answered several times, or is one of several near-copies: the bound is then that of
    the beta distribution between those of the counts beside them.
    """
    if errors >= answered:
        return 1.0
    stats = require("scipy.stats", extra="train")
    return float(stats.beta.ppf(1 - ALPHA, errors + 1, answered - errors))


def threshold_of(
    right: NDArray[np.bool_] | IntArray,
    confidence: FloatArray,
    weights: FloatArray | None = None,
    *,
    n: int | None = None,
    target: float = TARGET,
) -> Threshold:
    """Return the lowest threshold at which as many answers as `target` asks for were right, if half of the rows are answered.

    One rule, whatever the number of rows: at most 1 - target of the answers were wrong as measured, and at least half of the
    rows (`FLOOR`) are answered, so the model never falls silent. Where no threshold is so, the most confident half is answered.
    Where all rows can be answered, the threshold is 0: nothing measured speaks for silence.

    On new rows this meets the target on average. That it does so for certain is what `risk_high` speaks of; to choose by that
    bound would answer fewer rows the moment there are enough of them to prove it: see design/024-intervals.md.

    Args:
        right: whether the answers for held-out rows were right [M], M > 0.
        confidence: of the answers [M].
        weights: what each counts as an observation [M]; 1 if left out. Their sum is what bounds rest on.
        n: the rows that these are answers for; M if left out.
        target: accuracy wanted on the answered rows, in (0, 1].

    Returns:
        the threshold with what it does to these rows.
    """
    counts = np.ones(len(right)) if weights is None else np.asarray(weights, float)
    points = [point for point in risk_coverage_of(confidence, right, counts) if point.coverage >= FLOOR - 1e-12]
    reached = [point for point in points if point.risk <= 1 - target + 1e-12]
    point = reached[-1] if reached else points[0]
    answered = round(point.coverage * float(counts.sum()), 9)
    bound = risk_bound(round(point.risk * answered, 9), answered)
    lowest = 0.0 if point.coverage >= 1 - 1e-12 else point.threshold
    basis: Literal["measured", "floor"] = "measured" if reached else "floor"
    return Threshold(lowest, point.coverage, point.risk, bound, len(right) if n is None else n, target, basis)
