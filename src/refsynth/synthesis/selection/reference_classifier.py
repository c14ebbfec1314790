"""The reference as a classifier: how much more likely a text is under each label's prompt than under the generic prompt.

This is the noisy channel (Min et al., 2022, "Noisy Channel Language Model Prompting", section 3) with batch calibration (Zhou et
al., 2024, "Batch Calibration", section 3), which subtracts the mean score of each label over the texts. If the prompts show no
real row, the classifier may be asked about any draft, whatever fold is held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import InputError
from refsynth.core.protocols import Generator, Predictor
from refsynth.core.types import FloatArray, Prompt


class Shortlist(NamedTuple):
    """The `size` labels of each text that a cheap predictor ranks highest. The reference is asked only about these."""

    predictor: Predictor
    size: int


class ReferenceClassifier:
    """A predictor that asks the reference: per text, a pass for each label on its shortlist and one under the generic prompt.

    The generic pass does not change the ranking of the labels of one text. It makes texts comparable: without it, a label's mean
    would depend on how likely the texts that it is asked about are under any prompt.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: Mapping[str, Prompt],
        generic: Prompt,
        *,
        temperature: float,
        shortlist: Shortlist | None = None,
    ) -> None:
        """Set up the classifier; the reference is not asked yet.

        Args:
            generator: the reference.
            prompts: of each label, in the order of the labels.
            generic: the prompt that names no label.
            temperature: of the posterior, in nats per token.
            shortlist: which labels to ask about; all if None.

        Raises:
            InputError: The shortlist's predictor has other labels.
        """
        self._generator, self._prompts, self._generic = generator, dict(prompts), generic
        self._temperature, self._shortlist = temperature, shortlist
        if shortlist and shortlist.predictor.labels != self.labels:
            raise InputError(f"a shortlist of labels {shortlist.predictor.labels}", expected=f"{self.labels}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of the columns of `logits`."""
        return tuple(self._prompts)

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return calibrated log-posteriors up to a constant [N, K]; -inf for a label that is not on a text's shortlist.

        Calibration subtracts means over these texts. So the result for a text depends on the others in the call, and is zero for
        a single text.
        """
        return calibrated(self.ratios(texts)) / self._temperature

    def ratios(self, texts: Sequence[str]) -> FloatArray:
        """Return mean log P(token | label's prompt) - log P(token | generic prompt), in nats [N, K].

        -inf for a label that is not on a text's shortlist, NaN for a text without tokens. All pairs are asked in one call, prompt
        by prompt, so that a reference with a prefix cache computes each prompt once.
        """
        shortlisted = self._shortlisted(texts)
        columns, rows = np.nonzero(shortlisted.T)  # label by label
        prompts = list(self._prompts.values())
        pairs = [(self._generic, text) for text in texts] + [
            (prompts[k], texts[n]) for k, n in zip(columns.tolist(), rows.tolist(), strict=True)
        ]
        scores = self._generator.score([prompt for prompt, _ in pairs], [text for _, text in pairs])
        out = np.full(shortlisted.shape, -np.inf)
        out[rows, columns] = scores[len(texts) :] - scores[rows]
        return out

    def _shortlisted(self, texts: Sequence[str]) -> FloatArray:
        """Return which labels to ask about [N, K], bool."""
        k = len(self._prompts)
        if self._shortlist is None or self._shortlist.size >= k or not texts:
            return np.ones((len(texts), k), bool)
        logits = np.asarray(self._shortlist.predictor.logits(texts))
        best = np.argsort(-logits, axis=1, kind="stable")[:, : self._shortlist.size]
        shortlisted = np.zeros(logits.shape, bool)
        np.put_along_axis(shortlisted, best, values=True, axis=1)
        return shortlisted


def calibrated(ratios: FloatArray) -> FloatArray:
    """Return log-likelihood ratios [N, K] minus the mean of each label over the texts that it was asked about.

    -inf stays: a label that is not on a text's shortlist has no probability. NaN becomes 0: such a text favors no label.
    """
    known = np.isfinite(ratios)
    values = np.where(known, ratios, 0.0)
    means = values.sum(0) / np.maximum(known.sum(0), 1)
    return np.where(np.isneginf(ratios), -np.inf, np.where(known, values - means, 0.0))
