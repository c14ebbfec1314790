"""A bag of tokens: every token has a vote for every label, and a text's logits are the mean of its tokens' votes.

logits = bias + mean over the tokens t of weights[t]. The sum is additive, so the contribution of each token is exact. It needs
numpy and a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.types import FloatArray
from refsynth.models.predict import LinearHead
from refsynth.models.tokenizer import TextTokenizer

TEXTS_PER_CHUNK = 256
"""Limits the memory for the gathered votes, tokens x K."""


@dataclass(frozen=True)
class StaticPredictor:
    """The votes of V tokens for K labels: `head.weights` is [V, K]. The tokenizer adds no special tokens."""

    kind: ClassVar[str] = "static"
    labels: tuple[str, ...]
    tokenizer: TextTokenizer
    head: LinearHead

    def __post_init__(self) -> None:
        """Check that every token has votes.

        Raises:
            ModelError: the shapes do not fit.
        """
        if self.head.weights.shape != (self.tokenizer.size, len(self.labels)):
            raise ModelError(
                f"votes of shape {self.head.weights.shape}",
                expected=f"{self.tokenizer.size} tokens and {len(self.labels)} labels",
            )

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K], float32."""
        out = np.empty((len(texts), len(self.labels)), np.float32)
        for start in range(0, len(texts), TEXTS_PER_CHUNK):
            rows = self.tokenizer.encode(texts[start : start + TEXTS_PER_CHUNK])
            lengths = np.fromiter(map(len, rows), np.intp, len(rows))
            tokens = np.fromiter(chain.from_iterable(rows), np.intp, int(lengths.sum()))
            sums = np.add.reduceat(self.head.weights[tokens], np.cumsum(lengths) - lengths)
            out[start : start + len(rows)] = sums / lengths[:, None] + self.head.bias
        return out

    @property
    def bias(self) -> FloatArray:
        """The logits of a text without tokens [K]."""
        return self.head.bias

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the T tokens of a text and their contributions to the logits [T, K]; with the bias these sum to the logits."""
        words, row = self.tokenizer.pieces(text)
        return words, self.head.weights[row] / max(len(row), 1)

    def truncates(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it."""
        return self.tokenizer.truncates(text)

    def tensors(self) -> dict[str, FloatArray]:
        """Return the tensors of a bundle. Votes are in half precision, whose rounding is far below their uncertainty."""
        return {"weights": self.head.weights.astype(np.float16), "bias": self.head.bias.astype(np.float32)}

    def as_stored(self) -> StaticPredictor:
        """Return the predictor with the tensors that a bundle gives back, so that calibration is fitted to those."""
        return replace(self, head=LinearHead.stored(self.tensors()))
