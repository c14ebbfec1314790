"""How like its training rows a text is to a model: the cosine of its features to the mean of each label's rows.

Probabilities of labels cannot tell that a text is about none of them: they sum to 1, and with two labels a stranger is as sure as
a row. What is measured is the distance in the features that the model's own head reads (Snell et al., arXiv:1703.05175). Where
some texts about none of the labels are known, half of how like their mean a text is counts against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refsynth.core.protocols import Predictor
from refsynth.core.types import BoolArray, Example, FloatArray
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor

MOST = 64
"""Rows of a label that its mean is made of, at most: the first ones. More move it little, and each is read once more."""

AGAINST = 0.5
"""Of the cosine to the mean of texts about none of the labels, what is taken off; see design/025-none.md."""

Near = EncoderPredictor | TfidfPredictor


def near_of(predictor: Predictor, rows: Sequence[Example]) -> Near | None:
    """Return a predictor that reads the same features and says how like each label's rows they are, [N, K].

    A label without rows is like nothing. None of a predictor whose features have no such head.
    """
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        return None
    means = [_mean(predictor, [row.text for row in rows if row.label == label][:MOST]) for label in predictor.labels]
    weights = np.stack(means, 1)
    return replace(predictor, head=LinearHead(weights, np.zeros(weights.shape[1])))


def against(near: Near, none: Sequence[str]) -> Near:
    """Return what also knows texts about none of the labels: how like their mean a text is counts against it, by `AGAINST`."""
    return replace(near, head=LinearHead(near.head.weights - AGAINST * _mean(near, none)[:, None], near.head.bias))


def below(head: LinearHead, threshold: float) -> LinearHead:
    """Return the head of which all values are negative where the highest one was below a threshold."""
    return LinearHead(head.weights, head.bias - threshold)


def joined(head: LinearHead, other: LinearHead) -> LinearHead:
    """Return one head of two: features, which are dear, are then read once."""
    return LinearHead(np.concatenate([head.weights, other.weights], 1), np.concatenate([head.bias, other.bias]))


def with_near(predictor: Predictor, near: LinearHead) -> Predictor | None:
    """Return what gives logits and then likeness, of features that are read once; None where it has no such features."""
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        return None
    return replace(predictor, head=joined(predictor.head, near))


def strange(values: FloatArray) -> BoolArray:
    """Return which texts are like no label, by the values [N, K] of `below`."""
    return np.asarray(values.max(1) < 0)


def _mean(predictor: Near, texts: Sequence[str]) -> FloatArray:
    """Return the mean of the features of some texts at unit length [D]."""
    if isinstance(predictor, EncoderPredictor):
        total = predictor.encoder.encode(texts).sum(0) if texts else np.zeros(len(predictor.head.weights))
    else:
        total = np.zeros(predictor.vectors.dimension)
        for row in predictor.vectors.rows(texts):
            total[row.indices] += row.values
    length = np.linalg.norm(total)
    return np.asarray(total / length if length else total)
