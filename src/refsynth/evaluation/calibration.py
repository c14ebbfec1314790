"""Calibrates a model's confidence: fits a temperature, and the threshold below which the model abstains ("unsure").

Both are fitted to rows that the model was not trained on. Knows nothing of models.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.bundle.rules import UnsureRule
from refsynth.core.extras import require
from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import risk_coverage_of

LIMITS = (0.05, 20.0)
FLOOR = 0.5
TARGET = 0.9
ALPHA = 0.1


def fit_temperature(logits: FloatArray, truth: IntArray, weights: FloatArray | None = None) -> float:
    """Return the temperature T with which `softmax(logits / T)` is calibrated (Guo et al., 2017, section 4.2).

    Minimizes the negative log-likelihood over log T within `LIMITS`. A share 1 / (N + 2) of each row's target goes to the
    strongest wrong class, as in Platt (1999, section 2.2) for two classes: otherwise a few rows that are all correct would
    drive T to its lower limit, and every later confidence to 1. The effect vanishes as N grows.

    Args:
        logits: unnormalized log-probabilities [M, K] of held-out rows.
        truth: their labels [M].
        weights: the weight of each [M], N in total; 1 if left out. A row that was predicted R times weighs 1 / R each time.

    Returns:
        T; 1 if there are no rows or all logits are equal.
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
    result = optimize.minimize_scalar(loss, bounds=tuple(np.log(LIMITS)), method="bounded", options={"xatol": 1e-6})
    return float(np.clip(np.exp(result.x), *LIMITS))


class Threshold(NamedTuple):
    """The model answers if its confidence is at least `threshold`, and abstains otherwise.

    Attributes:
        coverage: share of the rows that are answered.
        risk: share of wrong answers among the answered rows.
        risk_high: upper bound of the risk (one-sided, 90%).
        target: the accuracy asked for on the answered rows.
        basis: `measured` if the target was reached on these rows, `floor` if not.
    """

    threshold: float
    coverage: float
    risk: float
    risk_high: float
    n: int
    target: float
    basis: Literal["measured", "floor"]


def rule_of(threshold: Threshold) -> UnsureRule:
    """Return the rule by which a threshold was chosen."""
    return UnsureRule(accuracy=threshold.target, rows=threshold.n, reached=threshold.basis == "measured")


def risk_bound(errors: float, answered: float) -> float:
    """Return the one-sided 90% upper bound on a share of errors (Clopper and Pearson, 1934).

    Counts may be fractions if a row was predicted several times or has near-copies. The beta distribution then interpolates
    between the bounds of whole counts.
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
    """Return the lowest threshold at which the answers reach the target accuracy and at least half of the rows are answered.

    The rule is the same for any number of rows: the measured risk is at most 1 - target, and at least half of the rows
    (`FLOOR`) are answered, so that the model never abstains everywhere. If no threshold satisfies both, the most confident half
    is answered. If all rows can be answered, the threshold is 0.

    New rows meet the target on average; `risk_high` bounds the risk with confidence. A rule based on that bound would answer
    fewer rows as soon as there are enough of them to prove it: see design/024-intervals.md.

    Args:
        right: whether each answer on held-out rows was right [M], M > 0.
        confidence: of the answers [M].
        weights: the weight of each answer [M]; 1 if left out. Bounds count their sum as the number of observations.
        n: number of rows of these answers; M if left out.
        target: accuracy asked for on the answered rows, in (0, 1].

    Returns:
        The threshold with its effect on these rows.
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
