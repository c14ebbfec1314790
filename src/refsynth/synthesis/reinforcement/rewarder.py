"""Measures what a policy writes by held-out real rows, with heads on the encoder's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refsynth.core.protocols import Encoder
from refsynth.core.types import Example, FloatArray, IntArray, Provenance
from refsynth.learning.head import classes_of, softmax_strength
from refsynth.models.predict import LinearHead
from refsynth.synthesis.parse import parse_completion
from refsynth.synthesis.reinforcement.figures import Measured, PromptedCompletion
from refsynth.synthesis.selection.choose import head_fitter
from refsynth.synthesis.selection.diversity import diversity
from refsynth.synthesis.selection.filter import screen
from refsynth.synthesis.selection.influence import Points, cross_fitted
from refsynth.synthesis.selection.scorers import agreement_of

AGREEMENT = 0.5
"""Least agreement of a text with its label by a model of the real rows. A text below is faulty, so that labels do not drift."""


@dataclass(frozen=True)
class Rewarder:
    """Measures the effect of texts on the loss of real rows, for each fold with a head fitted without it; rewards follow from it.

    The heads are fitted only to real rows. So a text's gain does not depend on the other texts, and gains of different turns can
    be compared.

    Attributes:
        labels: of the task.
        encoder: makes the features of texts.
        rows: the real rows [N].
        folds: of the rows [N].
        language: of the texts.
        longest: most words of a text.
    """

    labels: tuple[str, ...]
    encoder: Encoder
    rows: Sequence[Example]
    folds: IntArray
    language: str
    longest: int

    def __call__(self, written: Sequence[PromptedCompletion]) -> Measured:
        """Return what was measured of completions."""
        return self.measure(self._examples(written))

    def measure(self, examples: Sequence[Example]) -> Measured:
        """Return what was measured of M texts."""
        screened = screen(examples, self.rows, longest=self.longest)
        faulty = np.array([draft.dropped is not None for draft in screened], bool)
        gains = np.full(len(examples), np.nan)
        sound = [index for index, draft in enumerate(screened) if draft.dropped is None]
        if sound:
            drafts = self._points([examples[index] for index in sound])
            agreement = agreement_of(np.asarray(self._head.logits(drafts.features), float), drafts.classes)
            known = {row.label for row in self.rows}  # agreement means nothing for a label that no row has
            faulty[sound] = (agreement < AGREEMENT) & [examples[index].label in known for index in sound]
            seen = [self._seen(examples[index]) for index in sound]
            fit = head_fitter(len(self.labels))
            gains[sound] = cross_fitted(
                fit, self._real, self.folds, drafts, seen, strength=softmax_strength, train_on_drafts=False
            )
        texts = [example.text for example, wrong in zip(examples, faulty, strict=True) if not wrong]
        return Measured(gains, faulty, diversity(texts).distinct_2 if len(texts) > 1 else 0.0)

    def _examples(self, written: Sequence[PromptedCompletion]) -> list[Example]:
        """Return the texts as examples. A completion that gives no text becomes an empty one, which the screen rejects."""
        texts = {row.id: " ".join(row.text.split()) for row in self.rows}
        examples = []
        for index, (prompt, completion) in enumerate(written):
            parsed = parse_completion(completion, shown={texts[row] for row in prompt.shown}, language=self.language)
            origin = Provenance("", prompt.shown, 0, "", reworded=prompt.rewords)
            examples.append(Example(f"text-{index}", parsed.text, prompt.label, origin))
        return examples

    def _seen(self, example: Example) -> frozenset[int]:
        assert example.provenance is not None
        return frozenset(self._fold_of[row] for row in example.provenance.shown)

    @cached_property
    def _fold_of(self) -> dict[str, int]:
        return {row.id: int(fold) for row, fold in zip(self.rows, self.folds, strict=True)}

    @cached_property
    def _real(self) -> Points:
        return self._points(self.rows)

    @cached_property
    def _head(self) -> LinearHead:
        return head_fitter(len(self.labels))(self._real)

    def _points(self, examples: Sequence[Example]) -> Points:
        features: FloatArray = np.asarray(self.encoder.encode([example.text for example in examples]), float)
        return Points(features, classes_of(examples, self.labels), np.ones(len(examples)))
