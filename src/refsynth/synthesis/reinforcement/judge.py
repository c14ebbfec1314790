"""Who judges what a policy writes: held-out real rows, through heads on the encoder's embeddings."""

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
from refsynth.synthesis.reinforcement.figures import Judged, PromptedCompletion
from refsynth.synthesis.selection.choose import head_fitter
from refsynth.synthesis.selection.diversity import diversity
from refsynth.synthesis.selection.filter import screen
from refsynth.synthesis.selection.influence import Points, cross_fitted
from refsynth.synthesis.selection.scorers import agreement_of

AGREEMENT = 0.5
"""A text that a model of the real rows takes for another class is worth nothing: labels must not drift."""


@dataclass(frozen=True)
class RowJudge:
    """Judges texts by what they would do to the loss of some real rows, each fold of these by heads that were fitted without it.

    The heads are fitted to real rows alone, so that a text's gain does not depend on its company and gains of different turns can
    be compared.

    Attributes:
        labels: of the task.
        encoder: turns texts into features.
        rows: the real rows [N].
        folds: of the rows [N].
        language: of the texts.
        longest: the most words that a text may have.
    """

    labels: tuple[str, ...]
    encoder: Encoder
    rows: Sequence[Example]
    folds: IntArray
    language: str
    longest: int

    def __call__(self, written: Sequence[PromptedCompletion]) -> Judged:
        """Judge what was written for prompts."""
        return self.judge(self._examples(written))

    def judge(self, examples: Sequence[Example]) -> Judged:
        """Return the gains [M] of the texts, in nats of held-out loss per unit of weight, and which are faulty."""
        screened = screen(examples, self.rows, longest=self.longest)
        faulty = np.array([draft.dropped is not None for draft in screened])
        gains = np.full(len(examples), np.nan)
        sound = [index for index, draft in enumerate(screened) if draft.dropped is None]
        if sound:
            drafts = self._points([examples[index] for index in sound])
            agreement = agreement_of(np.asarray(self._head.logits(drafts.features), float), drafts.classes)
            known = {row.label for row in self.rows}  # of a label that no row has nobody here can say what belongs to it
            faulty[sound] = (agreement < AGREEMENT) & [examples[index].label in known for index in sound]
            seen = [self._seen(examples[index]) for index in sound]
            k = len(self.labels)
            gains[sound] = cross_fitted(
                head_fitter(k), self._real, self.folds, drafts, seen, strength=softmax_strength, train_on_drafts=False
            )
        texts = [example.text for example, wrong in zip(examples, faulty, strict=True) if not wrong]
        return Judged(gains, faulty, diversity(texts).distinct_2 if len(texts) > 1 else 0.0)

    def _examples(self, written: Sequence[PromptedCompletion]) -> list[Example]:
        """Return the texts as examples; one that cannot be read is empty, which the screen finds."""
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
