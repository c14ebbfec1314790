"""Fitting a multinomial logistic head to features: to classes, or to the probabilities that a teacher gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from refsynth.core.types import Example, FloatArray, IntArray
from refsynth.models.predict import LinearHead

DRAFT_WEIGHT = 4.0
"""Drafts count together at most this many times what the real rows count, however many there are."""


HEAD_STRENGTH = 10.0
"""scikit-learn's C for unit-length features, where its default of 1 leaves few-shot heads underfitted."""

LEAST_TARGET = 0.02
"""A smaller probability of a teacher is left out: a row counts once for each class that it may be."""


def classes_of(examples: Sequence[Example], labels: Sequence[str]) -> IntArray:
    """Return the class index of each example [N]."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[example.label] for example in examples], int)


def fit_head_to(features: Any, examples: Sequence[Example], labels: Sequence[str]) -> LinearHead:
    """Fit a head to examples with their features [N, D]; one with `targets` counts towards each class by its probability.

    That is cross-entropy with soft targets, which for a row is the weighted sum of its losses for each class.
    """
    classes, weights = classes_of(examples, labels), row_weights(examples)
    soft = [index for index, example in enumerate(examples) if example.targets is not None]
    if soft:
        hard = np.array([example.targets is None for example in examples])
        targets = np.array([examples[index].targets for index in soft])
        rows, columns = np.nonzero(targets >= LEAST_TARGET)
        taken = np.array(soft)[rows]
        order = np.concatenate([np.flatnonzero(hard), taken])
        classes = np.concatenate([classes[hard], columns])
        weights = np.concatenate([weights[hard], weights[taken] * targets[rows, columns]])
        features = features[order]
    return fit_head(features, classes, len(labels), strength=HEAD_STRENGTH, weights=weights)


def row_weights(examples: Sequence[Example]) -> FloatArray:
    """Return 1 for each real row, and for each draft its share of `DRAFT_WEIGHT` times the real rows, at most 1: [N]."""
    drafted = np.array([example.provenance is not None for example in examples], bool)
    real, drafts = int((~drafted).sum()), int(drafted.sum())
    each = 1.0 if not real or not drafts else min(1.0, DRAFT_WEIGHT * real / drafts)
    return np.where(drafted, each, 1.0)


def fit_head(features: Any, truth: IntArray, k: int, *, strength: float, weights: FloatArray | None = None) -> LinearHead:
    """Fit multinomial logistic regression with an L2 penalty.

    A class without rows gets weights of zero and a bias below all others, so that it is never predicted.

    Args:
        features: of the rows [N, D], dense or sparse.
        truth: their classes [N], in [0, K).
        k: the number of classes, K.
        strength: scikit-learn's C, the inverse of the penalty.
        weights: of the rows [N]; all 1 if left out.
    """
    present = np.unique(truth)
    coefficients, bias = np.zeros((features.shape[1], k)), np.full(k, -30.0)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearHead(coefficients, bias)
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, truth, sample_weight=weights)
    if len(present) == 2:  # scikit-learn keeps one row for two classes: log-odds of the second
        coefficients[:, present[1]], bias[present] = model.coef_[0], (0.0, float(model.intercept_[0]))
    else:
        coefficients[:, present], bias[present] = model.coef_.T, model.intercept_
    return LinearHead(coefficients, bias)
