"""Is influence true, and does it pay? Against training again without a draft, and as a choice of drafts, on frozen embeddings."""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from benchmarks.cells import Cell, Cells
from benchmarks.fewshot import SETS
from benchmarks.figures import Check, at_least, figure
from benchmarks.pool import draft_pool
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell, over_each
from refsynth.core.types import FloatArray, IntArray, kept
from refsynth.kinds.metrics import softmax
from refsynth.learning.head import HEAD_STRENGTH
from refsynth.synthesis.selection.choose import chooser_of, head_fitter
from refsynth.synthesis.selection.influence import Points

BUDGET = 45
TIMED = False
LEFT_OUT = 100
"""Drafts that the head is trained again without, in each fold that they are safe for."""

SPEARMAN_FLOOR, SPEARMAN_AIM = 0.6, 0.8


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started = time.monotonic()
    pool = draft_pool(sample, name, seed)
    drafts = kept(pool.screened)
    rows, chooser, k = pool.job.rows, chooser_of(pool.job, pool.screened), len(sample.labels)
    said = chooser.influence(rows.examples, drafts)
    real, mine = chooser.points(rows.examples, drafts)
    truth = _left_out(real, rows.folds, mine, chooser.seen(drafts), seed)
    common = np.isfinite(truth) & np.isfinite(said)
    agreement = float(spearmanr(said[common], truth[common]).statistic)
    half = len(drafts) // 2
    order = np.argsort(-np.nan_to_num(said, nan=-np.inf))
    chance = np.random.default_rng(seed).permutation(len(drafts))
    arms = {"real only": order[:0], "all drafts": order, "top half": order[:half], "bottom half": order[half:]}
    arms["random half"] = chance[:half]
    features = pool.job.context.encoder.encode(sample.texts)
    cells = []
    for system, chosen in arms.items():
        some = mine.take(chosen)
        weighed = some._replace(weights=np.minimum(1, some.weights * len(drafts) / max(1, len(chosen))))
        guess = head_fitter(k)(real.joined(weighed)).logits(features).argmax(1)
        cells.append(cell(system, sample.truth, guess, time.monotonic() - started, k))
    return [one | {"spearman": agreement, "drafts": len(drafts)} for one in cells]


def _left_out(real: Points, folds: IntArray, drafts: Points, seen: list[frozenset[int]], seed: int) -> FloatArray:
    """Return by how much the held-out loss rises when the head is trained again without a draft [M]; NaN where not tried."""
    total, count = np.zeros(len(drafts.classes)), np.zeros(len(drafts.classes))
    tried = np.random.default_rng(seed).permutation(len(drafts.classes))[:LEFT_OUT]
    for fold in np.unique(folds):
        out = folds == fold
        safe = np.array([int(fold) not in mine for mine in seen])
        some = drafts.take(safe)
        train, held_out = real.take(~out).joined(some), real.take(out)
        exact = LogisticRegression(C=HEAD_STRENGTH, tol=1e-7, max_iter=5000, warm_start=True)
        before = _loss(exact, train, held_out)
        places = np.flatnonzero(safe)
        for j in tried[safe[tried]]:
            without = np.ones(len(train.classes), bool)
            without[(~out).sum() + np.searchsorted(places, j)] = False
            total[j] += out.sum() * (_loss(exact, train.take(without), held_out) - before)
            count[j] += out.sum()
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


def _loss(model: LogisticRegression, train: Points, held_out: Points) -> float:
    model.fit(train.features, train.classes, sample_weight=train.weights)
    scores = model.decision_function(held_out.features)
    if scores.ndim == 1:  # two classes: the log-odds of the second
        scores = np.stack([np.zeros(len(scores)), scores], axis=1)
    column = np.searchsorted(model.classes_, held_out.classes)
    return float(-np.log(softmax(scores)[np.arange(len(column)), column]).mean())


def _agreements(cells: Cells) -> list[Check]:
    """Return the mean rank correlation, and the third-best set's, so that three sets reach the floor where it does."""
    by_set = sorted(over_each(cells.find(system="top half"), "spearman"), reverse=True)
    found = {"mean over all": by_set, "third-best set": by_set[2:3]}
    return [
        at_least(f"spearman, {name}", figure(values, "rank correlation", over="data sets"), SPEARMAN_FLOOR, SPEARMAN_AIM)
        for name, values in found.items()
    ]


SUITE = Suite(
    SETS,
    groups=(Group(_measure, ("real only", "all drafts", "top half", "bottom half", "random half")),),
    order=("real only", "all drafts", "random half", "bottom half", "top half"),
    held=(
        Over("top half over all drafts", "top half", "all drafts", floor=0.0, aim=1.0),
        Over("top half over random half", "top half", "random half", floor=0.0, aim=1.0),
    ),
    more=_agreements,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
