"""The choice of examples in a few-shot prompt: the same for every text, or the nearest to it."""

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
        """Return the examples before each text [N], the nearest last; the text itself is never among them."""
        ...


class NothingShown:
    """Zero-shot."""

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return no examples."""
        return [[] for _ in texts]


def class_by_class(classes: IntArray, *, seed: int) -> IntArray:
    """Return the places of N rows in random order: first one row of each class, then a second of each, and so on."""
    order = np.random.default_rng(seed).permutation(len(classes))
    rank = np.zeros(len(classes), int)
    for k in np.unique(classes):
        mine = order[classes[order] == k]
        rank[mine] = np.arange(len(mine))
    return np.asarray(order[np.argsort(rank[order], kind="stable")])


class SameShown:
    """The same examples for every text: of each class in turn, in an order drawn once."""

    def __init__(self, texts: Sequence[str], classes: IntArray, *, shots: int, seed: int) -> None:
        places = class_by_class(classes, seed=seed)[: shots + 1]
        self._pairs = [(texts[place], int(classes[place])) for place in places]
        self._shots = shots

    def before(self, texts: Sequence[str]) -> list[list[Pair]]:
        """Return the examples; if one is the text itself, the next takes its place."""
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
