"""Is influence true, and does it pay? Against training again without a draft, and as a choice of drafts, on frozen embeddings."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from refsynth.bench.cells import Cell, Cells, interval
from refsynth.bench.fewshot import SETS
from refsynth.bench.pool import Pool, draft_pool
from refsynth.bench.sets import Sample
from refsynth.bench.suite import Check, Group, Suite, cell
from refsynth.core.types import FloatArray, IntArray
from refsynth.metrics import softmax
from refsynth.quality.filter import kept
from refsynth.quality.influence import Points, cross_fitted
from refsynth.training.head import HEAD_STRENGTH, classes_of, fit_head, row_weights

LEFT_OUT = 50
"""Drafts that the head is trained again without, in each fold that they are safe for."""

SPEARMAN_FLOOR, SPEARMAN_AIM = 0.6, 0.8


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started = time.monotonic()
    pool = draft_pool(sample, name, seed)
    drafts = kept(pool.screened)
    points = points_of(pool)
    real, mine = points
    k = len(pool.task.labels)
    folds = {example.id: int(fold) for example, fold in zip(pool.rows.examples, pool.rows.folds, strict=True)}
    shown = [frozenset(folds[row] for row in draft.provenance.seen) for draft in drafts if draft.provenance]
    said = cross_fitted(_fit(k), real, pool.rows.folds, mine, shown, strength=HEAD_STRENGTH)
    truth = _left_out(real, pool.rows.folds, mine, shown, k, seed)
    common = np.isfinite(truth) & np.isfinite(said)
    agreement = float(spearmanr(said[common], truth[common]).statistic)
    half = len(drafts) // 2
    order = np.argsort(-np.nan_to_num(said, nan=-np.inf))
    chance = np.random.default_rng(seed).permutation(len(drafts))
    arms = {"real only": order[:0], "all drafts": order, "top half": order[:half], "bottom half": order[half:]}
    arms["random half"] = chance[:half]
    features = pool.encoder.encode([row["text"] for row in sample.test])
    cells = []
    for system, chosen in arms.items():
        some = Points(
            mine.features[chosen], mine.classes[chosen], np.minimum(1, mine.weights[chosen] * len(drafts) / max(1, len(chosen)))
        )
        head = _fit(k)(_joined(real, some))
        cells.append(cell(system, sample.classes(sample.test), head.logits(features).argmax(1), time.monotonic() - started, k))
    return [one | {"spearman": agreement, "drafts": len(drafts)} for one in cells]


def points_of(pool: Pool) -> tuple[Points, Points]:
    """Return the real rows and the screened drafts on frozen embeddings, with the weights that a learner gives them."""
    rows = [*pool.rows.examples, *kept(pool.screened)]
    features = pool.encoder.encode([row.text for row in rows])
    everything = Points(np.asarray(features, float), classes_of(rows, pool.task.labels), row_weights(rows))
    real = np.arange(len(rows)) < len(pool.rows.examples)
    return everything.take(real), everything.take(~real)


def _fit(k: int) -> Any:
    return lambda points: fit_head(points.features, points.classes, k, strength=HEAD_STRENGTH, weights=points.weights)


def _joined(real: Points, drafts: Points) -> Points:
    return Points(*(np.concatenate(pair) for pair in zip(real, drafts, strict=True)))


def _left_out(real: Points, folds: IntArray, drafts: Points, shown: list[frozenset[int]], k: int, seed: int) -> FloatArray:
    """Return by how much the held-out loss rises when the head is trained again without a draft [M]; NaN where not tried."""
    total, count = np.zeros(len(drafts.classes)), np.zeros(len(drafts.classes))
    tried = np.random.default_rng(seed).permutation(len(drafts.classes))[:LEFT_OUT]
    for fold in np.unique(folds):
        out = folds == fold
        safe = np.array([int(fold) not in seen for seen in shown])
        some = drafts.take(safe)
        train, held_out = _joined(real.take(~out), some), real.take(out)
        exact = LogisticRegression(C=HEAD_STRENGTH, tol=1e-6, max_iter=5000, warm_start=True)
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


def _agreements(cells: Cells) -> list[dict[str, Any]]:
    """Return one check: the third-best set's mean rank correlation, so that three sets reach the floor where it does."""
    found = {name: [one["spearman"] for one in cells.find(set=name, system="top half")] for name in SETS}
    means = sorted((float(np.mean(values)) for values in found.values() if values), reverse=True)
    every = [value for values in found.values() for value in values]
    value, low, high = interval(every) if every else (float("nan"),) * 3
    third = means[2] if len(means) > 2 else float("nan")
    common = {"unit": "rank correlation", "floor": SPEARMAN_FLOOR, "aim": SPEARMAN_AIM, "n": len(every)}
    return [
        {"name": "spearman, mean over all", "value": value, "low": low, "high": high, **common, "ok": value >= SPEARMAN_FLOOR},
        {
            "name": "spearman, third-best set",
            "value": third,
            "low": third,
            "high": third,
            **common,
            "ok": third >= SPEARMAN_FLOOR,
        },
    ]


INFLUENCE = Suite(
    "influence",
    sets=SETS,
    groups=(Group(_measure, ("real only", "all drafts", "top half", "bottom half", "random half"), "refsynth"),),
    order=("real only", "all drafts", "random half", "bottom half", "top half"),
    checks=(
        Check("top half over all drafts", "top half", "all drafts", floor=0.0, aim=1.0),
        Check("top half over random half", "top half", "random half", floor=0.0, aim=1.0),
    ),
    more=_agreements,
)
