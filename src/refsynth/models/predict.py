"""Heads on features of texts, with numpy alone. Texts in, logits [N, K] out.

Knows nothing of folders with manifests (that is `bundle`), of calibration or of training.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.protocols import Encoder, Predictor
from refsynth.core.types import FloatArray
from refsynth.models.tfidf import TfidfVectors

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weights + bias, with weights [D, K] and bias [K]."""

    weights: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ModelError: they do not fit.
        """
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise ModelError(f"a head with weights {self.weights.shape} and bias {self.bias.shape}", expected="[D, K] and [K]")

    def logits(self, features: FloatArray) -> FloatArray:
        """Return logits [N, K] of features [N, D]."""
        return np.asarray(features @ self.weights + self.bias)


@dataclass(frozen=True)
class EncoderPredictor:
    """A head on an encoder's embeddings."""

    labels: tuple[str, ...]
    encoder: Encoder
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        return self.head.logits(self.encoder.encode(texts))


@dataclass(frozen=True)
class TfidfPredictor:
    """A head on TF-IDF features, which stay sparse: work is proportional to the n-grams of a text."""

    labels: tuple[str, ...]
    vectors: TfidfVectors
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        out = np.empty((len(texts), len(self.head.bias)))
        for index, row in enumerate(self.vectors.rows(texts)):
            out[index] = row.values @ self.head.weights[row.indices] + self.head.bias
        return out

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the J n-grams of a text and what each adds to the logits, [J, K]: their sum and the bias are the logits."""
        row = self.vectors.rows([text])[0]
        return self.vectors.terms(row.indices), row.values[:, None] * self.head.weights[row.indices]


def logits_of(predictors: Mapping[Name, Predictor], texts: Sequence[str]) -> dict[Name, FloatArray]:
    """Return what each predictor says of the texts, logits [N, K]; an encoder that several share reads them once."""
    features: dict[int, FloatArray] = {}
    said: dict[Name, FloatArray] = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, EncoderPredictor):
            if id(predictor.encoder) not in features:
                features[id(predictor.encoder)] = predictor.encoder.encode(texts)
            said[name] = predictor.head.logits(features[id(predictor.encoder)])
        else:
            said[name] = predictor.logits(texts)
    return said
