"""Fitting a multinomial logistic head to features."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from refsynth.core.types import FloatArray, IntArray
from refsynth.models.predict import LinearHead


def fit_head(features: FloatArray, truth: IntArray, k: int, *, strength: float, weights: FloatArray | None = None) -> LinearHead:
    """Fit multinomial logistic regression with an L2 penalty.

    A class without rows gets weights of zero and a bias below all others, so that it is never predicted.

    Args:
        features: of the rows [N, D].
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
