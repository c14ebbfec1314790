"""Chooses the drafts that a model is trained on, using only the real rows that the model may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from refsynth.core.drafting import FilterConfig
from refsynth.core.protocols import Encoder, Predictor
from refsynth.core.scorers import scorers_of
from refsynth.core.types import Draft, Example, FloatArray, kept
from refsynth.kinds.metrics import softmax
from refsynth.learning.head import HEAD_STRENGTH, classes_of, fit_head, row_weights, softmax_strength
from refsynth.learning.job import Job
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import CLASS_MARGIN, SHARPNESS, Choose, SelfTrainer
from refsynth.models.predict import LinearHead
from refsynth.synthesis.selection.context import CachedPredictor, ScorerContext, SeenRows, score_drafts
from refsynth.synthesis.selection.filter import drop_by, even_out
from refsynth.synthesis.selection.influence import Points, cross_fitted
from refsynth.synthesis.selection.soft_labels import posteriors


def head_fitter(k: int) -> Callable[[Points], LinearHead]:
    """Return a function that fits a head of `k` classes to points as the learners do."""
    return lambda points: fit_head(points.features, points.classes, k, strength=HEAD_STRENGTH, weights=points.weights)


def choice_of(job: Job, drafts: Sequence[Draft]) -> Choose:
    """Return the function that chooses among drafts, and adds the texts of the pool of which the judge is confident."""
    settings = job.task.config.selftrain
    texts = job.pool.texts if settings.per_class else ()
    trainer = SelfTrainer(job.task.labels, texts, settings.per_class, settings.confidence)
    return trainer.joined(chooser_of(job, drafts).choose)


def chooser_of(job: Job, drafts: Sequence[Draft]) -> Chooser:
    """Return the chooser for the drafts of a job."""
    return Chooser(job.task.labels, job.task.config.filter, job.context.encoder, job.rows, drafts)


@dataclass(frozen=True)
class Chooser:
    """Chooses among drafts for several sets of real rows: all of them, and all but one fold.

    Attributes:
        labels: of the task.
        settings: of the filter.
        encoder: before any training; influence is measured on its embeddings.
        rows: all real rows with their folds.
        drafts: all screened drafts; each call chooses among a part of them.
    """

    labels: tuple[str, ...]
    settings: FilterConfig
    encoder: Encoder
    rows: Rows
    drafts: Sequence[Draft]

    def choose(self, judge: Predictor, real: Sequence[Example], drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts, each kept or dropped with a reason.

        For multi-label tasks and token classification only the scorers decide: even classes and targets assume one label per
        text.

        Args:
            judge: fitted to `real`.
            real: the rows that a model will be trained on.
            drafts: screened drafts that have seen no row that the model will be measured on.
        """
        examples = kept(drafts)
        if not examples:
            return list(drafts)
        seen = SeenRows(real, CachedPredictor(judge), partial(self.influence, real))
        context = ScorerContext(self.labels, self.rows.kind, self.rows.language, rows=seen)
        chosen = list(drafts)
        for spec, number in scorers_of(self.settings):
            if spec.reads == "rows":
                chosen = drop_by(spec, chosen, score_drafts(spec, context, kept(chosen)), number)
        if self.rows.kind.several or self.rows.kind.words:
            return chosen
        chosen = even_out(chosen, self.labels, margin=CLASS_MARGIN)
        if self.settings.targets == "label":
            return chosen
        logits = np.array(seen.judge.logits([example.text for example in examples]), float)
        return _with_targets(chosen, self._targets(drafts, examples, logits))

    def influence(self, real: Sequence[Example], drafts: Sequence[Example]) -> FloatArray:
        """Return the cross-fitted gain of each draft on held-out rows among `real` [M]; NaN if no row can measure it."""
        folds = self.rows.fold_of
        rows = [example for example in real if example.id in folds]
        if not rows or not drafts:
            return np.full(len(drafts), np.nan)
        of_rows, of_drafts = self.points(rows, drafts)
        row_folds = np.array([folds[row.id] for row in rows])
        fit = head_fitter(len(self.labels))
        return cross_fitted(fit, of_rows, row_folds, of_drafts, self.seen(drafts), strength=softmax_strength)

    def seen(self, drafts: Sequence[Example]) -> list[frozenset[int]]:
        """Return for each draft the folds of the rows that it was made from."""
        folds = self.rows.fold_of
        return [frozenset(folds[row] for row in draft.provenance.seen) if draft.provenance else frozenset() for draft in drafts]

    def points(self, real: Sequence[Example], drafts: Sequence[Example]) -> tuple[Points, Points]:
        """Return real rows and drafts as embeddings, with the weights that a learner of both gives them."""
        place, features = self._features
        rows = [*real, *drafts]
        together = Points(features[[place[row.id] for row in rows]], classes_of(rows, self.labels), row_weights(rows))
        first = np.arange(len(rows)) < len(real)
        return together.take(first), together.take(~first)

    @cached_property
    def _features(self) -> tuple[Mapping[str, int], FloatArray]:
        """The embeddings of all rows and drafts [N + M, D], made in one call: their last digits depend on the batch."""
        examples = [*self.rows.examples, *kept(self.drafts)]
        features = np.asarray(self.encoder.encode([example.text for example in examples]), float)
        return {example.id: index for index, example in enumerate(examples)}, features

    def _targets(self, drafts: Sequence[Draft], examples: Sequence[Example], logits: FloatArray) -> dict[str, tuple[float, ...]]:
        """Return the target of each kept draft by id: the judge's probabilities, or their mean with the reference's."""
        targets = softmax(SHARPNESS * logits)
        if self.settings.targets == "ensemble":
            reference = posteriors([draft for draft in drafts if draft.dropped is None], self.labels)
            targets = np.where(np.isnan(reference), targets, (targets + reference) / 2)
        return {example.id: tuple(row.tolist()) for example, row in zip(examples, targets, strict=True)}


def _with_targets(chosen: Sequence[Draft], targets: Mapping[str, tuple[float, ...]]) -> list[Draft]:
    return [
        draft if draft.dropped else replace(draft, example=replace(draft.example, targets=targets[draft.example.id]))
        for draft in chosen
    ]
