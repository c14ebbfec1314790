"""The reference as a judge of class: how much more likely it finds a text under each label's prompt than under none.

That is the noisy channel (Min et al., 2022, "Noisy Channel Language Model Prompting", section 3) with batch calibration (Zhou et
al., 2024, "Batch Calibration", section 3): what the reference says of any text, label by label, is taken out. Where the prompts
show no real row, the judge may be asked about any draft, whatever fold is held out. Knows nothing of where drafts come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import InputError
from refsynth.core.protocols import Generator, Predictor
from refsynth.core.types import FloatArray, Prompt


class Shortlist(NamedTuple):
    """The `size` labels of each text that a cheap predictor finds most likely: the reference is asked about these only."""

    predictor: Predictor
    size: int


class ReferenceJudge:
    """A predictor that asks the reference: one pass over a text for each label on its shortlist, and one without a class.

    The pass without a class does not tell the labels of one text apart, but texts from one another: with it, the mean over the
    texts that a label is asked about says how the reference takes to the label, not how easy these texts are.
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
        """Prepare; nothing is asked yet.

        Args:
            generator: the reference.
            prompts: of each label, in the labels' order.
            generic: the prompt that names no class.
            temperature: of the posterior, in nats per token.
            shortlist: which labels to ask about; all of them if left out.

        Raises:
            InputError: the shortlist's predictor knows other labels.
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
        """Return calibrated log-posteriors up to a constant of each text [N, K]; -inf for a label that is not on its shortlist.

        Calibration takes the mean over these texts: what is said of one depends on which others are asked about with it, and of
        one text alone nothing is left.
        """
        return calibrated(self.ratios(texts)) / self._temperature

    def ratios(self, texts: Sequence[str]) -> FloatArray:
        """Return mean log P(token | label's prompt) - log P(token | prompt without a class), in nats [N, K].

        -inf for a label that is not on a text's shortlist, NaN for a text without tokens. All pairs are asked in one call and
        prompt by prompt, so that a reference that keeps a prompt's prefix computes each once.
        """
        asked = self._asked(texts)
        columns, rows = np.nonzero(asked.T)  # label by label
        prompts = list(self._prompts.values())
        pairs = [(self._generic, text) for text in texts] + [
            (prompts[k], texts[n]) for k, n in zip(columns.tolist(), rows.tolist(), strict=True)
        ]
        scores = self._generator.score([prompt for prompt, _ in pairs], [text for _, text in pairs])
        out = np.full(asked.shape, -np.inf)
        out[rows, columns] = scores[len(texts) :] - scores[rows]
        return out

    def _asked(self, texts: Sequence[str]) -> FloatArray:
        """Return which labels to ask about [N, K], bool."""
        k = len(self._prompts)
        if self._shortlist is None or self._shortlist.size >= k or not texts:
            return np.ones((len(texts), k), bool)
        said = self._shortlist.predictor.logits(texts)
        best = np.argsort(-np.asarray(said), axis=1, kind="stable")[:, : self._shortlist.size]
        asked = np.zeros(said.shape, bool)
        np.put_along_axis(asked, best, values=True, axis=1)
        return asked


def calibrated(ratios: FloatArray) -> FloatArray:
    """Return log-likelihood ratios [N, K] less their mean over the texts that each label was asked about.

    -inf stays: a label that is not on a text's shortlist has no probability. NaN becomes 0: the text says nothing.
    """
    known = np.isfinite(ratios)
    values = np.where(known, ratios, 0.0)
    means = values.sum(0) / np.maximum(known.sum(0), 1)
    return np.where(np.isneginf(ratios), -np.inf, np.where(known, values - means, 0.0))
