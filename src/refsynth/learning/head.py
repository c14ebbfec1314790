"""Fitting a logistic head to features: to classes, to a teacher's probabilities, or one head for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from refsynth.core.types import Example, FloatArray, IntArray
from refsynth.kinds import ANY_LABELS, given_labels
from refsynth.models.predict import LinearHead

DRAFT_WEIGHT = 4.0
"""The total weight of drafts is at most this many times the total weight of the real rows."""

HEAD_STRENGTH = 10.0
"""scikit-learn's C for unit-length features, where its default of 1 leaves few-shot heads underfitted."""

NEVER = -30.0
"""The logit, for every text, of a label that no row has."""

Link = Literal["softmax", "sigmoid"]
"""How logits become probabilities: one label for each row, or any number of independent labels."""

TOLERANCE = 1e-5
"""The fit to probabilities ends when no element of the gradient of the mean loss is larger."""


def classes_of(examples: Sequence[Example], labels: Sequence[str]) -> IntArray:
    """Return the class index of each example [N]."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[example.label] for example in examples], int)


def marks_of(examples: Sequence[Example], labels: Sequence[str]) -> IntArray:
    """Return the indicator matrix of the labels of each example [N, K]."""
    return ANY_LABELS.truth(given_labels(examples), labels)


def targets_of(
    examples: Sequence[Example], labels: Sequence[str], *, smoothing: float = 0.0, link: Link = "softmax"
) -> FloatArray:
    """Return the target probabilities of each example [N, K]: its `targets`, or 1 for its label or labels, then smoothed."""
    if link == "sigmoid":
        return (1 - smoothing) * marks_of(examples, labels) + smoothing / 2
    targets = np.eye(len(labels))[classes_of(examples, labels)]
    for index, example in enumerate(examples):
        if example.targets is not None:
            targets[index] = example.targets
    return (1 - smoothing) * targets + smoothing / len(labels)


def fit_head_to(features: Any, examples: Sequence[Example], labels: Sequence[str], *, link: Link = "softmax") -> LinearHead:
    """Fit a head to examples with their features [N, D]. An example with `targets` counts for each class by its probability."""
    weights = row_weights(examples)
    if link == "sigmoid":
        return fit_label_heads(features, marks_of(examples, labels), strength=HEAD_STRENGTH, weights=weights)
    if all(example.targets is None for example in examples):
        return fit_head(features, classes_of(examples, labels), len(labels), strength=HEAD_STRENGTH, weights=weights)
    return fit_soft_head(features, targets_of(examples, labels), strength=HEAD_STRENGTH, weights=weights)


def row_weights(examples: Sequence[Example]) -> FloatArray:
    """Return the weight of each row [N]: its own, scaled down for drafts if `DRAFT_WEIGHT` limits them."""
    drafted = np.array([example.provenance is not None for example in examples], bool)
    own = np.array([example.weight for example in examples], float)
    most = DRAFT_WEIGHT * own[~drafted].sum()
    scale = most / max(most, own[drafted].sum()) if most else 1.0
    return np.where(drafted, scale * own, own)


def softmax_strength(k: int) -> float:
    """Return the C with which a softmax regression has the same optimum as a head fitted to rows of `k` classes.

    For two classes scikit-learn fits one vector w of log-odds. Softmax has two, w / 2 and -w / 2, with half the penalty.
    """
    return HEAD_STRENGTH / 2 if k == 2 else HEAD_STRENGTH


def fit_head(features: Any, truth: IntArray, k: int, *, strength: float, weights: FloatArray | None = None) -> LinearHead:
    """Fit multinomial logistic regression with an L2 penalty.

    A class without rows gets weights of zero and a bias below all others, so that it is never predicted.

    Args:
        features: features of the rows [N, D], dense or sparse.
        truth: class of each row [N], in [0, K).
        k: the number of classes, K.
        strength: scikit-learn's C, the inverse of the penalty.
        weights: weight of each row [N]; 1 by default.
    """
    present = np.unique(truth)
    coefficients, bias = np.zeros((features.shape[1], k)), np.full(k, NEVER)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearHead(coefficients, bias)
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, truth, sample_weight=weights)
    if len(present) == 2:  # for two classes scikit-learn has one row: log-odds of the second
        coefficients[:, present[1]], bias[present] = model.coef_[0], (0.0, float(model.intercept_[0]))
    else:
        coefficients[:, present], bias[present] = model.coef_.T, model.intercept_
    return LinearHead(coefficients, bias)


def fit_label_heads(features: Any, marks: IntArray, *, strength: float, weights: FloatArray) -> LinearHead:
    """Fit a logistic regression with an L2 penalty for each label.

    A label that no row has gets weights of zero and is never predicted; one that all rows have is always predicted.

    Args:
        features: features of the rows [N, D], dense or sparse.
        marks: indicator matrix of the labels [N, K].
        strength: scikit-learn's C, the inverse of the penalty.
        weights: weight of each row [N].
    """
    coefficients, bias = np.zeros((features.shape[1], marks.shape[1])), np.full(marks.shape[1], NEVER)
    bias[marks.all(0)] = -NEVER
    for label in np.flatnonzero(marks.any(0) & ~marks.all(0)):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, marks[:, label], sample_weight=weights)
        coefficients[:, label], bias[label] = model.coef_[0], model.intercept_[0]
    return LinearHead(coefficients, bias)


def fit_soft_head(features: Any, targets: FloatArray, *, strength: float, weights: FloatArray) -> LinearHead:
    """Fit the model of `fit_head` to probabilities of the classes, by cross-entropy.

    scikit-learn only fits to classes. Repeating each row for every class, weighted by the probability, is equivalent, but takes K
    times the memory and time if no probability is 0, as with label smoothing.

    Args:
        features: features of the rows [N, D], dense or sparse.
        targets: probabilities of the classes [N, K].
        strength: scikit-learn's C, the inverse of the penalty.
        weights: weight of each row [N].
    """
    features = features if issparse(features) else np.asarray(features, float)
    shape, free = (features.shape[1] + 1, targets.shape[1]), slice(int(targets.shape[1] == 2), None)  # as scikit-learn for K = 2
    share, penalty = weights / weights.sum(), 1 / (strength * weights.sum())

    def parameters(flat: FloatArray) -> FloatArray:
        table = np.zeros(shape)
        table[:, free] = flat.reshape(shape[0], -1)
        return table

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        table = parameters(flat)
        logits = features @ table[:-1] + table[-1]
        log_shares = log_softmax(logits, axis=1)
        residual = share[:, None] * (np.exp(log_shares) - targets)
        slope = np.concatenate([features.T @ residual + penalty * table[:-1], residual.sum(0)[None]])
        loss = -float(share @ (targets * log_shares).sum(1)) + penalty / 2 * float((table[:-1] ** 2).sum())
        return loss, slope[:, free].ravel()

    start = np.zeros(shape)[:, free].ravel()
    options = {"maxiter": 1000, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
    table = parameters(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)
    return LinearHead(table[:-1], table[-1])
