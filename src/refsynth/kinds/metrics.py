"""Figures of merit as pure numpy functions on labels [N] and probabilities [N, K]; their intervals are in `core.intervals`.

Labels are integers in [0, K), or an indicator matrix [N, K] where a row may have any number of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.intervals import mean_interval
from refsynth.core.types import FloatArray, IntArray


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
    return per_class_of(np.diag(table), table.sum(1), table.sum(0))


def per_class_of(hits: IntArray, support: IntArray, claimed: IntArray) -> PerClass:
    """Return the figures of classes from how often each was predicted correctly, was true, and was predicted: each [K]."""
    f1 = 2 * hits / np.maximum(support + claimed, 1)
    return PerClass(hits / np.maximum(claimed, 1), hits / np.maximum(support, 1), f1, support)


def macro_f1(truth: IntArray, predicted: IntArray, k: int) -> float:
    """Return the mean F1 over the classes that occur in either array, as scikit-learn does."""
    figures = per_class(truth, predicted, k)
    occurs = (figures.support > 0) | (np.bincount(predicted, minlength=k) > 0)
    return float(figures.f1[occurs].mean())


def per_label(truth: IntArray, predicted: IntArray) -> PerClass:
    """Return precision, recall, F1 and support of each label, from indicators [N, K]."""
    return per_class_of((truth * predicted).sum(0), truth.sum(0), predicted.sum(0))


def row_f1(truth: IntArray, predicted: IntArray) -> FloatArray:
    """Return the F1 of each row's labels [N], from indicators [N, K]; 1 for a row without true or predicted labels."""
    both = truth.sum(1) + predicted.sum(1)
    return np.where(both == 0, 1.0, 2 * (truth * predicted).sum(1) / np.maximum(both, 1))


def micro_f1(truth: IntArray, predicted: IntArray) -> float:
    """Return the F1 over all indicators [N, K] together; 0 if all are 0."""
    return float(2 * (truth * predicted).sum() / max(truth.sum() + predicted.sum(), 1))


def mean_f1(truth: IntArray, predicted: IntArray) -> float:
    """Return the macro-F1 of indicators [N, K]: the mean F1 over the labels that occur in either."""
    occurs = truth.any(0) | predicted.any(0)
    return float(per_label(truth, predicted).f1[occurs].mean()) if occurs.any() else 0.0


def exact_match(truth: IntArray, predicted: IntArray) -> IntArray:
    """Return whether each row's labels are all correct [N], from indicators [N, K]."""
    return np.asarray((truth == predicted).all(1), int)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, float))))


LEAST = 1e-300
"""The floor of probabilities before their logarithm is taken."""


def lead_of(probabilities: FloatArray) -> FloatArray:
    """Return p1 / (p1 + p2) of the two most probable classes of each row, in [0.5, 1]: [N] of [N, K]."""
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
    """One bin of a reliability diagram; `low` and `high` are the 95% interval of its accuracy."""

    confidence: float
    accuracy: float
    n: int
    low: float
    high: float


BINS = 10
"""Bins of equal width in [0, 1]."""


def reliability(truth: IntArray, probabilities: FloatArray, groups: IntArray | None = None) -> list[ReliabilityBin]:
    """Return the non-empty bins over the confidence of the predicted class; `groups` [N] as for `mean_interval`."""
    return reliability_of(probabilities.max(1), probabilities.argmax(1) == truth, groups)


def reliability_of(
    confidence: FloatArray, right: NDArray[np.bool_] | IntArray, groups: IntArray | None = None
) -> list[ReliabilityBin]:
    """Return the non-empty bins for confidences [N] of answers that are right or wrong [N]."""
    index, bins = np.minimum((confidence * BINS).astype(int), BINS - 1), []
    for here in (index == b for b in np.unique(index)):
        accuracy = mean_interval("accuracy", right[here], None if groups is None else groups[here])
        bins.append(ReliabilityBin(float(confidence[here].mean()), accuracy.value, accuracy.n, accuracy.low, accuracy.high))
    return bins


def calibration_error(truth: IntArray, probabilities: FloatArray) -> float:
    """Return the expected calibration error (Guo et al., 2017, eq. 3): mean |confidence - accuracy| over the bins."""
    return distance(reliability(truth, probabilities))


def distance(cells: Sequence[ReliabilityBin]) -> float:
    """Return the mean |confidence - accuracy| over the rows of the bins."""
    return sum(cell.n * abs(cell.confidence - cell.accuracy) for cell in cells) / sum(cell.n for cell in cells)


class RiskCoverage(NamedTuple):
    """Answering only the rows with confidence >= `threshold`: the share answered, and the error among those."""

    threshold: float
    coverage: float
    risk: float


def risk_coverage_of(
    confidence: FloatArray, right: NDArray[np.bool_] | IntArray, weights: FloatArray | None = None
) -> list[RiskCoverage]:
    """Return one point per distinct confidence, from the most confident rows to all rows.

    Args:
        confidence: of each answer [N].
        right: whether each answer is right [N].
        weights: how much each row counts [N]; equal by default.
    """
    counts = np.ones(len(confidence)) if weights is None else np.asarray(weights, float)
    order = np.argsort(-confidence, kind="stable")
    answered, errors = np.cumsum(counts[order]), np.cumsum((counts * ~np.asarray(right, bool))[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # of each run of equal confidence
    total = answered[-1] if len(answered) else 1.0
    return [
        RiskCoverage(float(confidence[order[i]]), float(answered[i] / total), float(errors[i] / answered[i]))
        for i in np.flatnonzero(last)
    ]


def squared_distances(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return squared Euclidean distances [N, M] of points [N, D] and [M, D]."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))
