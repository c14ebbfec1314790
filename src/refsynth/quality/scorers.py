"""Scorers: what a model says of a draft, higher is better. Each is a component of its own; the filter combines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refsynth.core.protocols import Generator, Predictor
from refsynth.core.types import Example, FloatArray, Prompt
from refsynth.metrics import softmax


class AgreementScorer:
    """P(label of the draft | text) under a predictor that was fitted to real rows: ZeroGen's and SuperGen's filter."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return probabilities [N]."""
        if not drafts:
            return np.zeros(0)
        column = {label: index for index, label in enumerate(self._predictor.labels)}
        probabilities = softmax(self._predictor.logits([draft.text for draft in drafts]))
        return probabilities[np.arange(len(drafts)), [column[draft.label] for draft in drafts]]


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
