"""The computations of scorers: how far a model agrees with the label of a draft. Higher is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.types import Array, Example, FloatArray, IntArray, Prompt
from refsynth.kinds.spans import path_of


def agreement_of(logits: FloatArray, classes: IntArray) -> FloatArray:
    """Return the agreement [N] of logits [N, K] with the classes [N] that the texts were written for.

    P(label) / (P(label) + P(strongest other)), in [0, 1]: above 1/2 exactly if the predictor predicts the same label, for any
    number of labels.
    """
    rows, others = np.arange(len(classes)), np.array(logits, float)
    own = others[rows, classes]
    others[rows, classes] = -np.inf
    return np.asarray(1 / (1 + np.exp(np.clip(others.max(1, initial=-np.inf) - own, -50, 50))))


def agreement_of_sets(logits: FloatArray, marks: IntArray) -> FloatArray:
    """Return the agreement [N] of independent logits [N, K] with the labels that the texts were written for, as marks [N, K].

    The least likely of these labels is compared with the likeliest other label. If either does not exist, its logit is 0.
    """
    least = np.where(marks == 1, logits, np.inf).min(1)
    strongest = np.where(marks == 1, -np.inf, logits).max(1)
    other, own = np.where(np.isinf(strongest), 0.0, strongest), np.where(np.isinf(least), 0.0, least)
    return np.asarray(1 / (1 + np.exp(np.clip(other - own, -50, 50))))


def agreement_of_tags(probabilities: Array, truth: Array, predicted: Array) -> FloatArray:
    """Return the agreement [N] of tag probabilities of words [T, C] with the spans that texts were written with, in [0, 1].

    It is the mean probability of the right tag over the words in any written or predicted span; 1 if there is no span.
    """
    out = np.ones(len(truth))
    for row, (of_words, *spans) in enumerate(zip(probabilities, truth, predicted, strict=True)):
        right, answer = (path_of(one, len(of_words), (of_words.shape[1] - 1) // 2) for one in spans)
        words = np.flatnonzero((right > 0) | (answer > 0))
        if len(words):
            out[row] = of_words[words, right[words]].mean()
    return out


class LikelihoodRatioScorer:
    """Mean over tokens of log P(token | label's prompt) - log P(token | generic prompt), in nats.

    The noisy-channel score (Min et al., 2022, "Noisy Channel Language Model Prompting", section 3) relative to a generic prompt:
    how much more likely the reference finds the text once it knows the label. It needs two passes over each text.
    """

    def __init__(self, generator: Generator, prompts: Mapping[str, Prompt], generic: Prompt) -> None:
        self._generator = generator
        self._prompts = prompts
        self._generic = generic

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return log-likelihood ratios per token [N]."""
        texts = [draft.text for draft in drafts]
        under_label = self._generator.score([self._prompts[draft.label] for draft in drafts], texts)
        return np.asarray(under_label - self._generator.score([self._generic] * len(texts), texts))
