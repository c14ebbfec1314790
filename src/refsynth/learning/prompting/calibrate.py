"""Calibration of a reference's scores for labels: removing its bias, the preference for some labels regardless of the text.

Scores are mean log P per token [N, K]. Each method subtracts one value per label; methods differ in the texts that they measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from refsynth.core.types import FloatArray
from refsynth.core.words import words_of

Calibration = Literal["none", "contextual", "domain", "batch"]

CONTENT_FREE = ("N/A", "[MASK]", "-")
"""Texts without content (Zhao et al., 2021, "Calibrate Before Use", section 5; theirs are N/A, [MASK] and an empty one)."""

DOMAIN_TEXTS = 8

WORDS_PER_CHUNK = 3
"""A script without spaces between words has at least so many words between two spaces, on average."""


def calibration_texts(kind: Calibration, texts: Sequence[str], *, seed: int) -> list[str]:
    """Return the texts on which the bias for labels is measured.

    Args:
        kind: `contextual`: content-free words (Zhao et al., 2021); `domain`: random words of the texts, as many as they have on
            average (Fei et al., 2023, "Mitigating Label Biases for In-context Learning", section 3); `batch`: the texts
            themselves (Zhou et al., 2024, "Batch Calibration", section 3).
        texts: texts of the task, without labels.
        seed: seed of the random words.
    """
    if kind == "contextual":
        return list(CONTENT_FREE)
    if kind == "domain" and texts:
        chunks = [chunk for text in texts for chunk in text.split()]
        words = [text[word.start : word.end] for text in texts for word in words_of(text)]
        spaced = len(words) < WORDS_PER_CHUNK * len(chunks)
        words, separator = (chunks, " ") if spaced else (words, "")
        length = max(1, round(len(words) / len(texts)))
        drawn = np.random.default_rng(seed).choice(len(words), (DOMAIN_TEXTS, length))
        return [separator.join(words[place] for place in row) for row in drawn]
    return list(texts) if kind == "batch" else []


def taste(scores: FloatArray) -> FloatArray:
    """Return the bias to subtract from scores [K]: their mean over texts [M, K], centered over the labels.

    It is 0 without texts. For one content-free text it is Zhao et al.'s W = diag(p_cf)^-1, in logarithms.
    """
    if not len(scores):
        return np.zeros(scores.shape[1])
    mean = np.asarray(scores, float).mean(0)
    return np.asarray(mean - mean.mean())
