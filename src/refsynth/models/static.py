"""A bag of tokens: every token votes for every label, a text is the mean of its tokens' votes. Numpy and a tokenizer, no more.

logits = bias + mean over the tokens t of weights[t]: additive, so what each token says for a label is known exactly.
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
from refsynth.models.tokenise import TextTokenizer

TEXTS_PER_CHUNK = 256  # bounds the gathered votes, tokens x K, whatever the number of texts


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
            ModelError: the parts do not fit together.
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
        """What the logits of a text without parts are [K]."""
        return self.head.bias

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the T tokens of a text and what each adds to the logits, [T, K]: their sum and the bias are the logits."""
        words, row = self.tokenizer.pieces(text)
        return words, self.head.weights[row] / max(len(row), 1)

    def truncates(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it."""
        return self.tokenizer.truncates(text)

    def tensors(self) -> dict[str, FloatArray]:
        """Return what is stored of its numbers: half precision is far below what a vote is known to."""
        return {"weights": self.head.weights.astype(np.float16), "bias": self.head.bias.astype(np.float32)}

    def as_stored(self) -> StaticPredictor:
        """Return it with the numbers that a bundle gives back: whatever is fitted to its answers is fitted to these."""
        return replace(self, head=LinearHead.stored(self.tensors()))
