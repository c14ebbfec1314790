"""Makes each scorer from a `ScorerContext`: the functions that `core.scorers` names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refsynth.core.types import Example, FloatArray
from refsynth.kinds import given_labels
from refsynth.learning.head import classes_of, marks_of
from refsynth.synthesis.prompts import class_prompts, generic_prompt
from refsynth.synthesis.selection.context import ScorerContext, SeenRows
from refsynth.synthesis.selection.scorers import (
    LikelihoodRatioScorer,
    agreement_of,
    agreement_of_sets,
    agreement_of_tags,
)


def likelihood(context: ScorerContext) -> LikelihoodRatioScorer:
    """Return the scorer that compares each draft's likelihood under its label's prompt with that under the generic prompt."""
    assert context.reference is not None and context.meanings is not None  # as its spec reads the reference
    language = context.language
    return LikelihoodRatioScorer(
        context.reference(), class_prompts(context.meanings, language), generic_prompt(language=language)
    )


class AgreementScorer:
    """Agreement of a model of the real rows with the labels of drafts, in [0, 1]; NaN for labels that it does not know."""

    def __init__(self, context: ScorerContext, rows: SeenRows) -> None:
        self._labels, self._kind, self._rows = context.labels, context.kind, rows

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return the agreement with each draft's label, labels or spans [N]."""
        read = self._rows.judge.logits([draft.text for draft in drafts])
        kind, labels = self._kind, self._labels
        if kind.words:
            probabilities = kind.probabilities(read)
            return agreement_of_tags(probabilities, kind.truth(given_labels(drafts), labels), kind.decide(probabilities))
        logits = np.array(read, float).reshape(-1, len(labels))
        if kind.several:
            marks = marks_of(drafts, labels)
            agreement = agreement_of_sets(logits, marks)
        else:
            classes = classes_of(drafts, labels)
            marks, agreement = np.eye(len(labels), dtype=int)[classes], agreement_of(logits, classes)
        agreement[marks[:, self._unknown(logits)].any(1)] = np.nan
        return agreement

    def _unknown(self, logits: FloatArray) -> list[int]:
        """Return the labels that no real row has and that the judge predicts for no text, by its logits [M, K].

        Its agreement with drafts for these means nothing. A judge that learns from descriptions may predict such labels; then its
        agreement counts.
        """
        known = {name for row in self._rows.real for name in self._kind.names(row.label)}
        predicted = logits > 0 if self._kind.several else logits == logits.max(1, keepdims=True)
        return [k for k, label in enumerate(self._labels) if label not in known and not predicted[:, k].any()]


def agreement(context: ScorerContext) -> AgreementScorer:
    """Return the scorer that asks the judge fitted to the real rows."""
    assert context.rows is not None  # as its spec reads rows
    return AgreementScorer(context, context.rows)


class InfluenceScorer:
    """The effect of drafts on the loss of held-out rows."""

    def __init__(self, rows: SeenRows) -> None:
        self._rows = rows

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return the cross-fitted gain of each draft [N]; NaN if no row can measure it."""
        return self._rows.influence(drafts)


def influence(context: ScorerContext) -> InfluenceScorer:
    """Return the scorer that measures influence on held-out real rows."""
    assert context.rows is not None  # as its spec reads rows
    return InfluenceScorer(context.rows)
