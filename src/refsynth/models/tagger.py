"""Taggers of words with what the base install has: texts in, for each text logits of its words [T, C] out, C = 1 + 2 K.

Words are those of `core.words`, tags those of `core.spans`. Which paths of tags are allowed is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from refsynth.core.spans import tag_names
from refsynth.core.types import Array, FloatArray
from refsynth.models.predict import TOKENS_PER_BATCH, LinearHead, open_session, run_session
from refsynth.models.tokenise import Pieces, TextTokenizer, length_batches

UNREAD = -30.0
"""The logit of all tags but "outside" for a word that the encoder does not read: it stands behind the longest text."""


class WordEncoder(Protocol):
    """Turns the words of texts into vectors."""

    def words(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the words of each text as tokens."""
        ...

    def states(self, rows: Sequence[Pieces]) -> list[FloatArray]:
        """Return a vector for each word that is among the tokens: [M, D] for each text."""
        ...


class OnnxWords:
    """An exported encoder of words: token ids and mask in, states of tokens [N, T, D] out.

    Args:
        graph: the ONNX file, with its external data beside it.
        tokenizer: the `tokenizer.json`.
        max_tokens: the longest text, special tokens included; longer ones are cut.
        threads: for one batch; 0 lets ONNX Runtime take one per core.

    Raises:
        ModelError: a file is absent or is not what it should be.
    """

    def __init__(self, graph: Path, tokenizer: Path, *, max_tokens: int, threads: int = 0) -> None:
        self._tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens, parallel=threads != 1)
        self._session = open_session(graph, threads)
        self.dimension = int(self._session.get_outputs()[0].shape[-1])

    def words(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the words of each text as tokens."""
        return self._tokenizer.words(texts)

    def states(self, rows: Sequence[Pieces]) -> list[FloatArray]:
        """Return the mean state of the tokens of each word: [M, D] for each text, float32.

        Raises:
            ModelError: the graph does not run on what the tokenizer gives.
        """
        out: list[FloatArray] = [np.zeros((0, self.dimension), np.float32)] * len(rows)
        for batch in length_batches([row.ids for row in rows], tokens=TOKENS_PER_BATCH):
            states = run_session(self._session, [rows[index].ids for index in batch], pad=self._tokenizer.pad)
            for index, each in zip(batch, states, strict=True):
                row = rows[index]
                means = [each[start:end].mean(0) for start, end in zip(row.starts, row.ends, strict=True)]
                out[index] = np.array(means, np.float32).reshape(-1, self.dimension)
        return out


@dataclass(frozen=True)
class TagPredictor:
    """A head on the states of words."""

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
