"""Heads on features of texts, with numpy alone: texts in, logits [N, K] out.

`bundle` reads and writes them; calibration and training are elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.protocols import Encoder, Predictor
from refsynth.core.types import FloatArray
from refsynth.models.tfidf import TfidfVectors
from refsynth.models.tokenizer import TextTokenizer

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weights + bias, with weights [D, K] and bias [K]."""

    weights: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ModelError: the shapes do not fit.
        """
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise ModelError(f"a head with weights {self.weights.shape} and bias {self.bias.shape}", expected="[D, K] and [K]")

    def logits(self, features: FloatArray) -> FloatArray:
        """Return logits [N, K] of features [N, D]."""
        return np.asarray(features @ self.weights + self.bias)

    def tensors(self, **further: FloatArray) -> dict[str, FloatArray]:
        """Return the tensors of a bundle, in fp32."""
        # safetensors writes an array's bytes in memory order, so a transposed array would be read back in another order.
        parts = {"weights": self.weights, "bias": self.bias, **further}
        return {name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()}

    @classmethod
    def stored(cls, tensors: Mapping[str, FloatArray]) -> LinearHead:
        """Return the head of such tensors."""
        return cls(tensors["weights"].astype(np.float32), tensors["bias"])


@dataclass(frozen=True)
class EncoderPredictor:
    """A head on an encoder's embeddings."""

    kind: ClassVar[str] = "encoder"
    labels: tuple[str, ...]
    encoder: Encoder
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        return self.head.logits(self.encoder.encode(texts))

    def truncates(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it, as far as the encoder can tell."""
        tokenizer: TextTokenizer | None = getattr(self.encoder, "tokenizer", None)
        return tokenizer is not None and tokenizer.truncates(text)


@dataclass(frozen=True)
class TfidfPredictor:
    """A head on sparse TF-IDF features: the time is proportional to the n-grams of a text."""

    kind: ClassVar[str] = "tfidf"
    labels: tuple[str, ...]
    vectors: TfidfVectors
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        out = np.empty((len(texts), len(self.head.bias)))
        for index, row in enumerate(self.vectors.rows(texts)):
            out[index] = row.values @ self.head.weights[row.indices] + self.head.bias
        return out

    @property
    def bias(self) -> FloatArray:
        """The logits of a text without features [K]."""
        return self.head.bias

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the J n-grams of a text and their contributions to the logits [J, K]; with the bias these sum to the logits."""
        row = self.vectors.rows([text])[0]
        return self.vectors.terms(row.indices), row.values[:, None] * self.head.weights[row.indices]

    def tensors(self) -> dict[str, FloatArray]:
        """Return the tensors of a bundle: the head, and the idf of all vocabularies, one after the other."""
        return self.head.tensors() | {"idf": np.concatenate([part.idf for part in self.vectors.parts]).astype(np.float64)}

    def as_stored(self) -> TfidfPredictor:
        """Return the predictor with the tensors that a bundle gives back, so that calibration is fitted to those."""
        return replace(self, head=LinearHead.stored(self.tensors()))


def logits_of(predictors: Mapping[Name, Predictor], texts: Sequence[str]) -> dict[Name, FloatArray]:
    """Return the logits of each predictor [N, K]; a shared encoder encodes the texts once."""
    features: dict[int, FloatArray] = {}
    logits: dict[Name, FloatArray] = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, EncoderPredictor):
            if id(predictor.encoder) not in features:
                features[id(predictor.encoder)] = predictor.encoder.encode(texts)
            logits[name] = predictor.head.logits(features[id(predictor.encoder)])
        else:
            logits[name] = predictor.logits(texts)
    return logits
