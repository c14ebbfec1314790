"""Does asking for the right labels pay? Labels that each strategy needs for 90% of what all labels give, against random ones.

A logistic head on frozen embeddings, which are computed once. All strategies of a seed begin with the same random labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, figure, markdown, means
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.core.hashes import derive_seed
from refsynth.core.types import FloatArray, IntArray
from refsynth.data.language import detect_language
from refsynth.kinds.metrics import accuracy, softmax
from refsynth.labels.active import STRATEGIES, CandidatePool, StrategyName, choose
from refsynth.learning.head import HEAD_STRENGTH, fit_head
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.store import ModelStore

SETS = ("banking77", "financial_phrasebank")
BUDGET = 15
TIMED = False
EVERY = 10**9
"""Labeled rows per class that are read: all of them are the pool."""

LEAST_BATCH, ROUNDS = 10, 30
"""Labels of a round, or as many as there are classes; and rounds."""

SHARE = 0.9
"""Of the accuracy with all labels, which is to be reached."""

WHOLE = "all labels"


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started, k = time.monotonic(), len(sample.labels)
    features = _embeddings([row["text"] for row in (*sample.train, *sample.test)])
    pool, test = features[: len(sample.train)], features[len(sample.train) :]
    truth, answers = sample.classes(sample.train), sample.truth
    batch = max(LEAST_BATCH, k)
    whole = _fit(pool, truth, np.arange(len(pool)), k).logits(test).argmax(1)
    full = accuracy(answers, whole)
    cells = [cell(WHOLE, answers, whole, time.monotonic() - started, k) | {"labels": len(pool)}]
    for strategy in STRATEGIES:
        started = time.monotonic()
        said = _rounds(strategy, pool, truth, test, k, batch, seed)
        curve = [accuracy(answers, guess) for guess in said]
        measured = {"curve": [round(value, 4) for value in curve], "batch": batch, "labels": needed(curve, batch, SHARE * full)}
        done = cell(strategy, answers, said[-1], time.monotonic() - started, k)
        cells.append(done | measured | {"accuracy": float(np.mean(curve))})
    return cells


def _rounds(
    strategy: StrategyName, pool: FloatArray, truth: IntArray, test: FloatArray, k: int, batch: int, seed: int
) -> list[IntArray]:
    """Return the classes that the model gives the test rows after each round."""
    labeled = np.random.default_rng(derive_seed(seed, "active")).permutation(len(pool))[:batch]
    said = []
    for number in range(ROUNDS):
        head = _fit(pool, truth, labeled, k)
        said.append(head.logits(test).argmax(1))
        free = np.setdiff1d(np.arange(len(pool)), labeled)
        view = CandidatePool(softmax(head.logits(pool[free])), pool[free], pool[labeled])
        chosen = choose(strategy, view, batch, seed=derive_seed(seed, strategy, number))
        labeled = np.concatenate([labeled, free[chosen.places]])
    return said


def _fit(features: FloatArray, truth: IntArray, rows: IntArray, k: int) -> LinearHead:
    return fit_head(features[rows], truth[rows], k, strength=HEAD_STRENGTH)


def needed(curve: Sequence[float], batch: int, goal: float) -> float | None:
    """Return how many labels first reached an accuracy, between two rounds in a straight line; None if none did."""
    reached = next((number for number, value in enumerate(curve) if value >= goal), None)
    if reached is None or reached == 0:
        return None if reached is None else float(batch)
    before, after = curve[reached - 1], curve[reached]
    return batch * (reached + (goal - before) / (after - before))


_KNOWN: dict[str, FloatArray] = {}
"""The embedding of each text that was encoded: the draws of a set share its texts."""


def _embeddings(texts: list[str]) -> FloatArray:
    """Return the embeddings of texts; each is computed once."""
    if missing := sorted({text for text in texts if text not in _KNOWN}):
        spec = encoder_for(detect_language(missing))
        encoder = TransformerEncoder(ModelStore().path(spec.name), prefix=spec.prefix, max_tokens=spec.max_tokens)
        _KNOWN.update(zip(missing, encoder.encode(missing), strict=True))
    return np.array([_KNOWN[text] for text in texts], float)


def _savings(cells: Cells) -> list[Check]:
    """Return how many labels fewer than random each strategy needs."""
    return [
        at_least(f"{name} against random", figure(means(saved(cells, name)), "% fewer labels", over="data sets"), 0.0, 20.0)
        for name in STRATEGIES
        if name != "random"
    ]


def saved(cells: Cells, name: str) -> list[tuple[str, float]]:
    """Return by what percentage fewer labels than random a strategy needs, with the set, for each draw."""
    keys = ("set", "seed", "rows", "version")
    pairs = [(one, cells.find(system="random", **{key: one[key] for key in keys})) for one in cells.find(system=name)]
    return [(one["set"], 100 * (1 - _needs(one) / _needs(other))) for one, others in pairs for other in others]


def _needs(one: Cell) -> float:
    """Return the labels that were needed; who never got there needed all rounds."""
    return float(one["labels"] or len(one["curve"]) * one["batch"])


def needs(cells: Cells) -> str:
    """Return the labels that each strategy needs, the mean over draws."""
    rows = [[name, *(_mean(cells.find(set=part, system=name)) for part in SETS)] for name in STRATEGIES]
    return markdown([f"labels for {SHARE:.0%} of the accuracy with all", *SETS], rows)


def _mean(found: Sequence[Cell]) -> str:
    return f"{np.mean([_needs(one) for one in found]):,.0f}" if found else ""


SUITE = Suite(
    SETS,
    groups=(Group(_measure, (WHOLE, *STRATEGIES)),),
    order=(WHOLE, *STRATEGIES),
    held=(Over("hybrid over random, mean of rounds", "hybrid", "random", floor=0.0, aim=2.0),),
    quick=("financial_phrasebank",),
    shots=EVERY,
    more=_savings,
    notes=needs,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
