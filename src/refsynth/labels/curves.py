"""Learning curves of a finished run over labeled rows and over drafts, and the expected gain from more of either.

Measured with a logistic head on the encoder's frozen embeddings, which are computed once. Fold-safe: a row is predicted by models
that saw neither the row nor a draft derived from it, and the model that selects drafts has not seen it either.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import InputError, counted
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Encoder
from refsynth.core.types import Draft, Example, FloatArray, Metric, kept
from refsynth.data.split import FoldSplit, parts
from refsynth.labels.worth import LearningCurve, Verdict, verdict, worth
from refsynth.learning.baseline import FrozenLearner
from refsynth.learning.candidates import safe_for
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job
from refsynth.models.predict import EncoderPredictor
from refsynth.synthesis.selection.choose import Chooser

SHARES = (0.3, 0.45, 0.6, 0.8, 1.0)
"""Shares of the rows, and of the drafts, on which models are trained."""

DRAWS = 4
"""Models for each share."""

LEAST_ROWS, LEAST_DRAFTS = 24, 100
MINUTE = 60.0


class Projection(NamedTuple):
    """The expected gains from more labels and from more drafts.

    Attributes:
        verdict: which of the two gains is larger.
        score: the name of the score.
        now: current number of "labels" and "drafts".
        errors: measured errors by number of "labels" and "drafts".
    """

    verdict: Verdict
    score: str
    labels: Metric
    drafts: Metric
    now: dict[str, int]
    errors: dict[str, dict[int, float]]


class CachedEncoder:
    """An encoder with precomputed embeddings."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        unique = list(dict.fromkeys(texts))
        self._embeddings = dict(zip(unique, np.asarray(encoder.encode(unique)), strict=True))

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the embeddings of texts [N, D]."""
        return np.stack([self._embeddings[text] for text in texts])


def answer(job: Job, drafts: Sequence[Draft], *, asked: int, labels: int, more: int, seed: int | None = None) -> Projection:
    """Return whether `labels` more labeled rows or `more` more drafts would improve the model more.

    Args:
        job: of a finished run.
        drafts: its screened drafts.
        asked: number of drafts the run requested.
        labels: number of new labels.
        more: number of new drafts to request.
        seed: of the random draws; the task's if None.

    Raises:
        InputError: there are too few rows or drafts for a curve, or words have labels.
    """
    rows = job.rows
    if rows.kind.words:
        raise InputError(
            "task: tokens: learning curves are known for labels of whole texts only",
            remedy="compare runs, one with half of the rows, and one without drafts (synthesis: {drafts: 0})",
        )
    if not rows.measurable or len(rows.examples) < LEAST_ROWS:
        raise InputError(f"{len(rows.examples)} labeled rows", expected=f"at least {LEAST_ROWS}, two of each of two labels")
    if asked < LEAST_DRAFTS or not kept(drafts):
        raise InputError(f"{asked} drafts, {len(kept(drafts))} of them usable", expected=f"at least {LEAST_DRAFTS}")
    root = derive_seed(job.task.config.seed if seed is None else seed, "worth")
    bench = _Bench(job, drafts, root)
    job.watch.note(f"{bench.fits:,} models to fit: {roughly(bench.seconds())}")
    with job.watch.progress("learning curves", bench.fits) as progress:
        by_rows = bench.by_rows(progress)
        by_drafts, share = bench.by_drafts(lambda done: progress(bench.fits // 2 + done))
    by_drafts = by_drafts._replace(sizes=asked * share * by_drafts.sizes)
    now = {"labels": len(rows.examples), "drafts": asked}
    gains = (
        worth(f"gain by {labels:,} labels", by_rows, now=now["labels"], more=labels, falls=True, seed=root, groups=rows.groups),
        worth(f"gain by {more:,} drafts", by_drafts, now=asked, more=more, falls=False, seed=root, groups=rows.groups),
    )
    errors = {name: _errors(curve) for name, curve in (("labels", by_rows), ("drafts", by_drafts))}
    return Projection(verdict(*gains), rows.kind.measure, *gains, now=now, errors=errors)


def roughly(seconds: float) -> str:
    """Return a duration in rounded minutes, for a person who decides whether to wait."""
    if seconds <= MINUTE:
        return "less than a minute"
    return f"about {counted(round(seconds / MINUTE), 'minute')}"


def _errors(curve: LearningCurve) -> dict[int, float]:
    means = 1 - curve.scores.mean((1, 2))
    return {round(float(size)): round(float(error), 4) for size, error in zip(curve.sizes, means, strict=True)}


class _Bench:
    """Fits models to parts of the rows and drafts of a run; `fits` is the number of models for both curves."""

    def __init__(self, job: Job, drafts: Sequence[Draft], seed: int) -> None:
        self._rows, self._drafts, self._seed = job.rows, drafts, seed
        examples = [*job.rows.examples, *(draft.example for draft in drafts)]
        encoder = CachedEncoder(job.context.encoder, [example.text for example in examples])
        labels = job.task.labels
        self._learner = FrozenLearner(labels, encoder, link=job.context.link)
        self._chooser = Chooser(labels, job.task.config.filter, encoder, job.rows, drafts)
        self._held = HeldOut.of(job.rows, labels, job.rows.folds[None])
        self.fits = 2 * len(SHARES) * DRAWS * len(list(self._folds()))
        self._shape = (1, len(job.rows.examples), len(labels))

    def seconds(self) -> float:
        """Return the estimated time of all fits, measured with one model for each curve at the middle share."""
        fold = next(self._folds())
        begin, share = time.monotonic(), SHARES[len(SHARES) // 2]
        self._of_rows(fold, 0, share)
        self._of_drafts(fold, 0, share)
        return (time.monotonic() - begin) * self.fits / 2

    def by_rows(self, progress: Callable[[int], None]) -> LearningCurve:
        """Return the curve over labeled rows, without drafts: drafts may derive from the rows that are left out."""
        sizes = [
            float(np.mean([len(self._part(fold.train, draw, share)) for draw in range(DRAWS) for fold in self._folds()]))
            for share in SHARES
        ]
        return LearningCurve(np.array(sizes), self._scores(self._of_rows, progress))

    def by_drafts(self, progress: Callable[[int], None]) -> tuple[LearningCurve, float]:
        """Return the curve over shares of the drafts, with all rows, and the mean share of drafts that a fold can use."""
        usable = [len(self._safe(fold)) / len(self._drafts) for fold in self._folds()]
        return LearningCurve(np.array(SHARES), self._scores(self._of_drafts, progress)), float(np.mean(usable))

    def _of_rows(self, fold: FoldSplit, draw: int, share: float) -> EncoderPredictor:
        """Return a model of a share of the training rows of a fold."""
        return self._fit(self._part(fold.train, draw, share))

    def _of_drafts(self, fold: FoldSplit, draw: int, share: float) -> EncoderPredictor:
        """Return a model of the training rows of a fold and of drafts selected from a share of those that it can use."""
        safe = self._safe(fold)
        order = np.random.default_rng(derive_seed(self._seed, "drafts", draw)).permutation(len(safe))
        sample = [safe[place] for place in sorted(order[: round(share * len(safe))])]
        chosen = self._chooser.choose(self._fit(fold.train), fold.train, sample)
        return self._fit([*fold.train, *kept(chosen)])

    def _scores(self, fit: Callable[[FoldSplit, int, float], EncoderPredictor], progress: Callable[[int], None]) -> FloatArray:
        """Return the scores of all rows when held out, by share and draw [S, R, N]."""
        scores, done = [], itertools.count(1)
        for share, draw in itertools.product(SHARES, range(DRAWS)):
            logits = np.zeros(self._shape)
            for fold in self._folds():
                logits[0, fold.places] = fit(fold, draw, share).logits([row.text for row in fold.held])
                progress(next(done))
            scores.append(self._held.scores_of(logits))
        return np.array(scores).reshape(len(SHARES), DRAWS, -1)

    def _fit(self, rows: Sequence[Example]) -> EncoderPredictor:
        return self._learner.fit(rows, (), seed=0)

    def _safe(self, fold: FoldSplit) -> list[Draft]:
        return safe_for(self._drafts, frozenset(row.id for row in fold.held))

    def _folds(self) -> Iterator[FoldSplit]:
        return parts(self._rows.examples, self._rows.folds)

    def _part(self, train: Sequence[Example], draw: int, share: float) -> list[Example]:
        """Return a share of the rows of each label, at least one. Larger shares of the same draw contain smaller ones."""
        order = np.random.default_rng(derive_seed(self._seed, "rows", draw)).permutation(len(train))
        by_label: dict[str, list[Example]] = {}
        for place in order:
            by_label.setdefault(train[place].label, []).append(train[place])
        return [row for rows in by_label.values() for row in rows[: max(1, round(share * len(rows)))]]
