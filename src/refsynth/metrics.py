"""Figures of merit as pure numpy functions on labels [N] and probabilities [N, K], with intervals.

Labels are integers in [0, K), or, where a row has any number of them, marks of 0 and 1 [N, K]. Resampling is over rows, seeded,
and the same for the same arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import FloatArray, IntArray, Metric

RESAMPLES = 2000


def accuracy(truth: IntArray, predicted: IntArray) -> float:
    """Return the share of rows where the two agree."""
    return float(np.mean(truth == predicted))


def confusion(truth: IntArray, predicted: IntArray, k: int) -> IntArray:
    """Return counts [K, K]: rows are the truth, columns the prediction."""
    cells = np.asarray(truth, np.intp) * k + np.asarray(predicted, np.intp)  # a narrow integer type would overflow
    return np.bincount(cells, minlength=k * k).reshape(k, k)


class PerClass(NamedTuple):
    """Per-class figures, each [K]; 0 where the denominator is 0."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    support: IntArray


def per_class(truth: IntArray, predicted: IntArray, k: int) -> PerClass:
    """Return precision, recall, F1 and support of each class."""
    table = confusion(truth, predicted, k)
    hits, support, claimed = np.diag(table), table.sum(1), table.sum(0)
    precision = hits / np.maximum(claimed, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + claimed, 1)
    return PerClass(precision, recall, f1, support)


def macro_f1(truth: IntArray, predicted: IntArray, k: int) -> float:
    """Return the mean F1 over the classes that occur in either array, as scikit-learn does."""
    figures = per_class(truth, predicted, k)
    occurs = (figures.support > 0) | (np.bincount(predicted, minlength=k) > 0)
    return float(figures.f1[occurs].mean())


def per_label(truth: IntArray, said: IntArray) -> PerClass:
    """Return precision, recall, F1 and support of each label, of marks [N, K]."""
    hits, support, claimed = (truth * said).sum(0), truth.sum(0), said.sum(0)
    f1 = 2 * hits / np.maximum(support + claimed, 1)
    return PerClass(hits / np.maximum(claimed, 1), hits / np.maximum(support, 1), f1, support)


def row_f1(truth: IntArray, said: IntArray) -> FloatArray:
    """Return the F1 of each row's labels [N], of marks [N, K]; 1 where there are none and none are said."""
    both = truth.sum(1) + said.sum(1)
    return np.where(both == 0, 1.0, 2 * (truth * said).sum(1) / np.maximum(both, 1))


def micro_f1(truth: IntArray, said: IntArray) -> float:
    """Return the F1 over all marks [N, K] together; 0 where there are none."""
    return float(2 * (truth * said).sum() / max(truth.sum() + said.sum(), 1))


def mean_f1(truth: IntArray, said: IntArray) -> float:
    """Return the mean F1 over the labels that occur in either of the marks [N, K]: their macro-F1."""
    occurs = truth.any(0) | said.any(0)
    return float(per_label(truth, said).f1[occurs].mean()) if occurs.any() else 0.0


def exact_match(truth: IntArray, said: IntArray) -> IntArray:
    """Return whether each row has just the labels that are said [N], of marks [N, K]."""
    return np.asarray((truth == said).all(1), int)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, float))))


LEAST = 1e-300
"""A probability below it counts as this where its logarithm is taken."""


def lead_of(probabilities: FloatArray) -> FloatArray:
    """Return the probability of the likeliest class against the next alone, in [0.5, 1]: [N] of [N, K]."""
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] / best.sum(1))


def softmax(logits: FloatArray) -> FloatArray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def log_loss(truth: IntArray, probabilities: FloatArray) -> float:
    """Return the mean -log p(truth), in nats."""
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def brier(truth: IntArray, probabilities: FloatArray) -> float:
    """Return the mean squared distance of the probabilities to the one-hot truth (Brier, 1950): [0, 2]."""
    onehot = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - onehot) ** 2).sum(1).mean())


class ReliabilityBin(NamedTuple):
    """One bin of a reliability diagram."""

    confidence: float
    accuracy: float
    n: int


def reliability(truth: IntArray, probabilities: FloatArray, bins: int = 10) -> list[ReliabilityBin]:
    """Return the non-empty bins of equal width over the confidence of the predicted class."""
    return reliability_of(probabilities.max(1), probabilities.argmax(1) == truth, bins)


def reliability_of(confidence: FloatArray, right: NDArray[np.bool_] | IntArray, bins: int = 10) -> list[ReliabilityBin]:
    """Return the same for confidences [N] of anything that is right or wrong [N]."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(float(confidence[index == b].mean()), float(right[index == b].mean()), int((index == b).sum()))
        for b in range(bins)
        if (index == b).any()
    ]


def calibration_error(truth: IntArray, probabilities: FloatArray, bins: int = 10) -> float:
    """Return the expected calibration error (Guo et al., 2017, eq. 3): mean |confidence - accuracy| over the bins."""
    return distance(reliability(truth, probabilities, bins))


def distance(cells: Sequence[ReliabilityBin]) -> float:
    """Return the mean |confidence - accuracy| over the rows of the bins."""
    return sum(cell.n * abs(cell.confidence - cell.accuracy) for cell in cells) / sum(cell.n for cell in cells)


class RiskCoverage(NamedTuple):
    """Answering only the rows with confidence >= `threshold`: the share answered, and the error among those."""

    threshold: float
    coverage: float
    risk: float


def risk_coverage(truth: IntArray, probabilities: FloatArray) -> list[RiskCoverage]:
    """Return one point per distinct confidence, from the most confident rows to all rows."""
    return risk_coverage_of(probabilities.max(1), probabilities.argmax(1) == truth)


def risk_coverage_of(
    confidence: FloatArray, right: NDArray[np.bool_] | IntArray, weights: FloatArray | None = None
) -> list[RiskCoverage]:
    """Return the same for confidences [N] of answers that are right or wrong [N]; each counts as much as its weight [N]."""
    counts = np.ones(len(confidence)) if weights is None else np.asarray(weights, float)
    order = np.argsort(-confidence, kind="stable")
    answered, errors = np.cumsum(counts[order]), np.cumsum((counts * ~np.asarray(right, bool))[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # of each run of equal confidence
    total = answered[-1] if len(answered) else 1.0
    return [
        RiskCoverage(float(confidence[order[i]]), float(answered[i] / total), float(errors[i] / answered[i]))
        for i in np.flatnonzero(last)
    ]


def bootstrap(name: str, statistic: Callable[[IntArray], float], n: int, *, seed: int = 0) -> Metric:
    """Return a statistic of row indices with its 95% percentile bootstrap interval (Efron, 1979).

    Args:
        name: of the metric.
        statistic: a function of an array of row indices [n].
        n: the number of rows.
        seed: of the resampling.

    Returns:
        the statistic of all rows, with the interval.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Metric(name, statistic(np.arange(n)), float(low), float(high), n)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95% score interval of a share of `n` rows (Wilson, 1927), which holds for few rows and near 0 and 1."""
    z2 = 1.959963984540054**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return float(np.clip(centre - half, 0.0, share)), float(np.clip(centre + half, share, 1.0))


def accuracy_interval(truth: IntArray, predicted: IntArray) -> Metric:
    """Return the accuracy with its 95% Wilson interval."""
    return share_interval("accuracy", truth == predicted)


def share_interval(name: str, right: NDArray[np.bool_] | IntArray) -> Metric:
    """Return the share of rows [N] that are right with its 95% Wilson interval."""
    return share_of(name, float(np.mean(right)), len(right))


def share_of(name: str, share: float, n: int) -> Metric:
    """Return a share of `n` rows with its 95% Wilson interval."""
    return Metric(name, share, *wilson(share, n), n)


def macro_f1_interval(truth: IntArray, predicted: IntArray, k: int) -> Metric:
    """Return the macro-F1 with its bootstrap interval."""
    return bootstrap("macro-F1", lambda rows: macro_f1(truth[rows], predicted[rows], k), len(truth))


def exceeds_doubt(difference: FloatArray, *, doubt: float) -> bool:
    """Return whether the mean of differences [N] exceeds so many of its standard errors.

    One row more is exactly one standard error of N rows, and does not: rounding must not decide that.
    """
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return float(difference.mean()) > doubt * error * (1 + 1e-9)


def paired_gain(base: FloatArray, other: FloatArray, *, name: str = "gain", seed: int = 0) -> Metric:
    """Return the mean of `other - base` over paired rows [N], with its bootstrap interval."""
    difference = np.diff(np.stack([base, other]).astype(float), axis=0)[0]  # stacking refuses what is not paired
    return bootstrap(name, lambda rows: float(difference[rows].mean()), len(difference), seed=seed)
