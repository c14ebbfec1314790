"""Detecting texts of no label: the cosine of a text's features to the mean of each label's training rows.

Probabilities of labels cannot show that a text is about none of them: they sum to 1, and with two labels they are as high for
such a text as for any other. So similarity is measured in the features of the model's own head (Snell et al., arXiv:1703.05175).
If texts about none of the labels are known, half of the similarity to their mean is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refsynth.core.protocols import Predictor
from refsynth.core.types import BoolArray, Example, FloatArray
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor

MOST = 64
"""The most rows of a label in its mean: the first ones. More would move it little, and each is encoded once more."""

AGAINST = 0.5
"""The share of the cosine to the mean of texts about none of the labels that is subtracted; see design/025-none.md."""

Near = EncoderPredictor | TfidfPredictor


def near_of(predictor: Predictor, rows: Sequence[Example]) -> Near | None:
    """Return a predictor with the same features whose values are the similarities to each label's rows [N, K].

    They are 0 for a label without rows. None for predictors of other kinds.
    """
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        return None
    means = [_mean(predictor, [row.text for row in rows if row.label == label][:MOST]) for label in predictor.labels]
    weights = np.stack(means, 1)
    return replace(predictor, head=LinearHead(weights, np.zeros(weights.shape[1])))


def against(near: Near, none: Sequence[str]) -> Near:
    """Return the predictor that subtracts `AGAINST` times the similarity to the mean of the texts about none of the labels."""
    return replace(near, head=LinearHead(near.head.weights - AGAINST * _mean(near, none)[:, None], near.head.bias))


def below(head: LinearHead, threshold: float) -> LinearHead:
    """Return the head whose values are all negative if the highest one is below a threshold."""
    return LinearHead(head.weights, head.bias - threshold)


def joined(head: LinearHead, other: LinearHead) -> LinearHead:
    """Return one head with the values of two, so that the features are computed once."""
    return LinearHead(np.concatenate([head.weights, other.weights], 1), np.concatenate([head.bias, other.bias]))


def with_near(predictor: Predictor, near: LinearHead) -> Predictor | None:
    """Return a predictor of the logits followed by the similarities; None for predictors of other kinds."""
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        return None
    return replace(predictor, head=joined(predictor.head, near))


def strange(values: FloatArray) -> BoolArray:
    """Return which texts are similar to no label, by the values [N, K] of `below`."""
    return np.asarray(values.max(1) < 0)


def _mean(predictor: Near, texts: Sequence[str]) -> FloatArray:
    """Return the mean of the features of texts, scaled to unit length [D]."""
    if isinstance(predictor, EncoderPredictor):
        total = predictor.encoder.encode(texts).sum(0) if texts else np.zeros(len(predictor.head.weights))
    else:
        total = np.zeros(predictor.vectors.dimension)
        for row in predictor.vectors.rows(texts):
            total[row.indices] += row.values
    length = np.linalg.norm(total)
    return np.asarray(total / length if length else total)
