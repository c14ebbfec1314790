"""How each scorer is made of a `ScorerContext`: the functions that `core.scorers` names."""

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
    """Return the reference as a judge of drafts: each under its label's description against a prompt without a class."""
    assert context.reference is not None and context.meanings is not None  # it reads the reference
    language = context.language
    return LikelihoodRatioScorer(
        context.reference(), class_prompts(context.meanings, language), generic_prompt(language=language)
    )


class AgreementScorer:
    """What a model of the real rows says of the labels that drafts were written for, in [0, 1]; NaN where it cannot know them."""

    def __init__(self, context: ScorerContext, rows: SeenRows) -> None:
        self._labels, self._kind, self._rows = context.labels, context.kind, rows

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return the agreement with each draft's label, labels or spans [N]."""
        read = self._rows.judge.logits([draft.text for draft in drafts])
        kind, labels = self._kind, self._labels
        if kind.spans:
            found = kind.probabilities(read)
            return agreement_of_tags(found, kind.truth(given_labels(drafts), labels), kind.decide(found))
        said = np.array(read, float).reshape(-1, len(labels))
        if kind.several:
            marks = marks_of(drafts, labels)
            agreement = agreement_of_sets(said, marks)
        else:
            classes = classes_of(drafts, labels)
            marks, agreement = np.eye(len(labels), dtype=int)[classes], agreement_of(said, classes)
        agreement[marks[:, self._unknown(said)].any(1)] = np.nan
        return agreement

    def _unknown(self, said: FloatArray) -> list[int]:
        """Return the labels that no real row has and that the judge, which never met them, says of no text, by logits [M, K].

        Of drafts for these it knows nothing. A judge that learns from what labels mean may say them, and is asked.
        """
        known = {name for row in self._rows.real for name in self._kind.names(row.label)}
        yes = said > 0 if self._kind.several else said == said.max(1, keepdims=True)
        return [k for k, label in enumerate(self._labels) if label not in known and not yes[:, k].any()]


def agreement(context: ScorerContext) -> AgreementScorer:
    """Return the judge that is fitted to the real rows, as a judge of drafts."""
    assert context.rows is not None  # it reads rows
    return AgreementScorer(context, context.rows)


class InfluenceScorer:
    """What drafts do to the loss on held-out rows."""

    def __init__(self, rows: SeenRows) -> None:
        self._rows = rows

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return the cross-fitted gain of each draft [N]; NaN where no row can tell."""
        return self._rows.influence(drafts)


def influence(context: ScorerContext) -> InfluenceScorer:
    """Return the rows that are held out among the real ones, as judges of drafts."""
    assert context.rows is not None  # it reads rows
    return InfluenceScorer(context.rows)
