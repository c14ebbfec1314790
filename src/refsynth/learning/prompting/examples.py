"""Which examples a few-shot prompt shows: the same for every text, or those nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from refsynth.core.protocols import Encoder
from refsynth.core.types import IntArray
from refsynth.data.text import normalize

Pair = tuple[str, int]
"""A text with its class."""


class Shown(Protocol):
    """Chooses the examples of prompts."""

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return the examples that stand before each text [N], the last nearest to it; never the text itself."""
        ...


class NothingShown:
    """Zero-shot."""

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return no examples."""
        return [[] for _ in texts]


class SameShown:
    """The same examples for every text: of each class in turn, in an order drawn once."""

    def __init__(self, texts: Sequence[str], classes: IntArray, *, shots: int, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(texts))
        turn = {int(place): sum(classes[other] == classes[place] for other in order[:at]) for at, place in enumerate(order)}
        ranked = sorted(order.tolist(), key=lambda place: turn[place])  # stable: classes as they were drawn
        self._pairs = [(texts[place], int(classes[place])) for place in ranked[: shots + 1]]
        self._shots = shots

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return the examples; one that is the text itself gives way to the next."""
        return [_without(self._pairs, text)[: self._shots] for text in texts]


class NearestShown:
    """The examples whose embeddings are nearest to each text's.

    Liu et al., 2022, "What Makes Good In-Context Examples for GPT-3?", section 3.
    """

    def __init__(self, texts: Sequence[str], classes: IntArray, encoder: Encoder, *, shots: int) -> None:
        self._pairs = [(text, int(k)) for text, k in zip(texts, classes, strict=True)]
        self._encoder, self._shots = encoder, shots
        self._features = encoder.encode(texts)

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return the examples, the nearest last."""
        if not texts:
            return []
        near = np.argsort(-(self._encoder.encode(texts) @ self._features.T), axis=1, kind="stable")
        return [
            _without([self._pairs[place] for place in row[: self._shots + 1]], text)[: self._shots][::-1]
            for row, text in zip(near, texts, strict=True)
        ]


def _without(pairs: Sequence[Pair], text: str) -> list[Pair]:
    key = normalize(text)
    return [pair for pair in pairs if normalize(pair[0]) != key]
