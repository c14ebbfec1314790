"""Scorers: what a model says of a draft, higher is better. Each is a component of its own; the filter combines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.types import Array, Example, FloatArray, IntArray, Prompt
from refsynth.kinds.spans import path_of


def agreement_of(logits: FloatArray, classes: IntArray) -> FloatArray:
    """Return the agreement [N] of logits [N, K] with the classes [N] that the texts were written for.

    P(label) / (P(label) + P(strongest other)), in [0, 1]: above 1/2 exactly where the predictor says the same label, whatever
    the number of labels.
    """
    rows, others = np.arange(len(classes)), np.array(logits, float)
    own = others[rows, classes]
    others[rows, classes] = -np.inf
    return np.asarray(1 / (1 + np.exp(np.clip(others.max(1, initial=-np.inf) - own, -50, 50))))


def agreement_of_sets(logits: FloatArray, marks: IntArray) -> FloatArray:
    """Return the agreement [N] of logits [N, K], of each label by itself, with the labels that the texts were written for [N, K].

    That of the least likely of them against the likeliest other one; where there are none, or no others, against even odds.
    """
    least = np.where(marks == 1, logits, np.inf).min(1)
    strongest = np.where(marks == 1, -np.inf, logits).max(1)
    bar, own = np.where(np.isinf(strongest), 0.0, strongest), np.where(np.isinf(least), 0.0, least)
    return np.asarray(1 / (1 + np.exp(np.clip(bar - own, -50, 50))))


def agreement_of_tags(probabilities: Array, truth: Array, said: Array) -> FloatArray:
    """Return the agreement [N] of probabilities of words [T, C] with the spans that texts were written with, in [0, 1].

    The mean probability of the right tag over the words that belong to a span, be it one that was written or one that is said;
    1 where there is none.
    """
    out = np.ones(len(truth))
    for row, (each, *spans) in enumerate(zip(probabilities, truth, said, strict=True)):
        there, found = (path_of(one, len(each), (each.shape[1] - 1) // 2) for one in spans)
        words = np.flatnonzero((there > 0) | (found > 0))
        if len(words):
            out[row] = each[words, there[words]].mean()
    return out


class LikelihoodRatioScorer:
    """Mean over tokens of log P(token | label's prompt) - log P(token | prompt without a class), in nats.

    The noisy-channel score (Min et al., 2022, "Noisy Channel Language Model Prompting", section 3) against a generic prompt:
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
