"""Calibration of what a reference says of labels: its taste for some of them, whatever the text, is taken out.

Scores are mean log P per token [N, K]. All ways subtract a score per label; they differ in the texts that it is measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from refsynth.core.types import FloatArray
from refsynth.core.words import words_of

Calibration = Literal["none", "contextual", "domain", "batch"]

CONTENT_FREE = ("N/A", "[MASK]", "-")
"""Texts that say nothing (Zhao et al., 2021, "Calibrate Before Use", section 5; theirs are N/A, [MASK] and an empty one)."""

DOMAIN_TEXTS = 8

STRETCH = 3
"""Words to a stretch without white space, in the mean, from which on a script does not space its words."""


def calibration_texts(kind: Calibration, texts: Sequence[str], *, seed: int) -> list[str]:
    """Return the texts on which the taste for labels is measured.

    Args:
        kind: `contextual`: content-free words (Zhao et al., 2021); `domain`: random words of the texts, as many as they have on
            the mean (Fei et al., 2023, "Mitigating Label Biases for In-context Learning", section 3); `batch`: the texts as they
            are (Zhou et al., 2024, "Batch Calibration", section 3).
        texts: of the task, unlabelled.
        seed: of the random words.
    """
    if kind == "contextual":
        return list(CONTENT_FREE)
    if kind == "domain" and texts:
        spaced = [word for text in texts for word in text.split()]
        words = [text[word.start : word.end] for text in texts for word in words_of(text)]
        between = " "
        if len(words) < STRETCH * len(spaced):
            words = spaced
        else:
            between = ""
        length = max(1, round(len(words) / len(texts)))
        drawn = np.random.default_rng(seed).choice(len(words), (DOMAIN_TEXTS, length))
        return [between.join(words[place] for place in row) for row in drawn]
    return list(texts) if kind == "batch" else []


def taste(scores: FloatArray) -> FloatArray:
    """Return what is to be subtracted from scores: their mean over texts [M, K], less its own mean over labels: [K].

    Zeros where there are no texts. For one content-free text that is Zhao et al.'s W = diag(p_cf)^-1, in logarithms.
    """
    if not len(scores):
        return np.zeros(scores.shape[1])
    mean = np.asarray(scores, float).mean(0)
    return np.asarray(mean - mean.mean())
