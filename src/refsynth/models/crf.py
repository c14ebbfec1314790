"""A linear-chain CRF over features of words, as data: inference needs only the base install.

Its logits for a word are the logarithms of the marginal probabilities over all allowed paths (Lafferty et al., 2001), so it is
used like any other tagger. `learning.crf` fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.spans import tag_names
from refsynth.core.types import Array, FloatArray
from refsynth.models.predict import LinearHead
from refsynth.models.tokenizer import split_words

LEAST = 1e-30
"""The smallest marginal probability, so that logits are finite."""

LONGEST_WORD = 40
"""Characters of a word that its features use."""


def features_of(words: Sequence[str]) -> list[list[str]]:
    """Return the features of each word of a text: its form, and the words up to two places away."""
    words = [word[:LONGEST_WORD] for word in words]
    lower, shapes = ["^^", "^", *(word.lower() for word in words), "$", "$$"], ["", *map(_shape, words), ""]
    features = []
    for place, word in enumerate(words):
        before2, before, own, after, after2 = lower[place : place + 5]
        features.append([
            "bias", f"w={own}", f"p3={word[:3]}", f"s3={own[-3:]}", f"s2={own[-2:]}", f"x={shapes[place + 1]}",
            f"-1={before}", f"+1={after}", f"-2={before2}", f"+2={after2}", f"-1x={shapes[place]}", f"+1x={shapes[place + 2]}",
            f"-1w={before}|{own}", f"w+1={own}|{after}", f"xxx={'|'.join(shapes[place : place + 3])}",
        ])  # fmt: skip
    return features


def _shape(word: str) -> str:
    """Return e.g. `Xx`, `d`, `xX` for `London`, `2017`, `iPhone`: a run of one class is one character."""
    out = ""
    for character in word:
        sign = "X" if character.isupper() else "d" if character.isdigit() else "x" if character.isalpha() else character
        out += sign if not out.endswith(sign) else ""
    return out[:8]


@dataclass(frozen=True)
class CrfPredictor:
    """F features with weights for each of C tags, and the scores of transitions between tags [C, C]."""

    kind: ClassVar[str] = "crf"
    labels: tuple[str, ...]
    terms: tuple[str, ...]
    head: LinearHead
    transitions: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ModelError: they do not fit.
        """
        c = len(tag_names(self.labels))
        if self.head.weights.shape != (len(self.terms), c) or self.transitions.shape != (c, c):
            found = f"{len(self.terms)} features, weights {self.head.weights.shape}, transitions {self.transitions.shape}"
            raise ModelError(f"a CRF with {found}", expected=f"[F, {c}] and [{c}, {c}]")

    def logits(self, texts: Sequence[str]) -> Array:
        """Return log-marginals [T, C] of the words of each text [N]."""
        out = np.empty(len(texts), object)
        for place, text in enumerate(texts):
            out[place] = np.log(np.maximum(self._marginals(self._scores(split_words(text))), LEAST))
        return out

    def tensors(self) -> dict[str, FloatArray]:
        """Return the tensors of a bundle."""
        return self.head.tensors(transitions=self.transitions)

    def as_stored(self) -> CrfPredictor:
        """Return the predictor with the tensors that a bundle gives back, so that calibration is fitted to those."""
        tensors = self.tensors()
        return replace(self, head=LinearHead.stored(tensors), transitions=tensors["transitions"])

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def _scores(self, words: Sequence[str]) -> FloatArray:
        columns, out = self._columns, np.tile(np.asarray(self.head.bias, float), (len(words), 1))
        for place, features in enumerate(features_of(words)):
            out[place] += self.head.weights[[columns[one] for one in features if one in columns]].sum(0)
        return out

    @cached_property
    def _passes(self) -> FloatArray:
        """Return exp(transitions), 0 for tags that may not follow [C, C]."""
        names = tag_names(self.labels)
        allowed = [[not after.startswith("I-") or before[1:] == after[1:] for after in names] for before in names]
        return np.where(allowed, np.exp(np.asarray(self.transitions, float)), 0.0)

    def _marginals(self, scores: FloatArray) -> FloatArray:
        """Return the probability of each tag of each word [T, C], by forward and backward recursions scaled word by word."""
        shares, passes, t = np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf)), self._passes, len(scores)
        ahead, behind = np.zeros_like(shares), np.ones_like(shares)
        starts = np.array([not name.startswith("I-") for name in tag_names(self.labels)], float)
        for place in range(t):
            ahead[place] = shares[place] * (ahead[place - 1] @ passes if place else starts)
            ahead[place] /= ahead[place].sum()
        for place in range(t - 2, -1, -1):
            behind[place] = passes @ (shares[place + 1] * behind[place + 1])
            behind[place] /= behind[place].sum()
        both = ahead * behind
        return np.asarray(both / both.sum(1, keepdims=True))
