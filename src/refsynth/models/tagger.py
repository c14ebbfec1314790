"""Taggers of words in the base install: texts in, logits of the words of each text [T, C] out, C = 1 + 2 K.

Words are those of `core.words`, tags those of `core.spans`. Decoding decides which sequences of tags are allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from refsynth.core.spans import UNREAD, tag_names
from refsynth.core.types import Array, FloatArray
from refsynth.models.predict import LinearHead
from refsynth.models.tokenizer import Pieces, TextTokenizer


class WordEncoder(Protocol):
    """Turns the words of texts into vectors."""

    def words(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the words of each text as tokens."""
        ...

    def states(self, rows: Sequence[Pieces]) -> list[FloatArray]:
        """Return a vector for each word that has tokens: [M, D] for each text."""
        ...


@dataclass(frozen=True)
class TagPredictor:
    """A head on the states of words."""

    kind: ClassVar[str] = "tagger"
    labels: tuple[str, ...]
    encoder: WordEncoder
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> Array:
        """Return logits [T, C] of the words of each text [N]."""
        rows = self.encoder.words(texts)
        out = np.empty(len(rows), object)
        for place, (row, states) in enumerate(zip(rows, self.encoder.states(rows), strict=True)):
            logits = np.full((row.n, len(tag_names(self.labels))), UNREAD)
            logits[:, 0] = 0.0
            logits[row.words] = self.head.logits(states)
            out[place] = logits
        return out

    def truncates(self, text: str) -> bool:
        """Return whether a clean text has words that are not read, as far as the encoder can tell."""
        tokenizer: TextTokenizer | None = getattr(self.encoder, "tokenizer", None)
        return tokenizer is not None and tokenizer.truncates(text, words=True)
