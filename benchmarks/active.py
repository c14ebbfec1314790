"""Does asking for the right labels pay? Labels that each strategy needs for 90% of what all labels give, against random ones.

A logistic head on frozen embeddings, which are computed once. All strategies of a seed begin with the same random labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.annotate.active import STRATEGIES, Pool, StrategyName, choose
from benchmarks.cells import Cell, Cells, figure, means
from benchmarks.pool import BENCH
from benchmarks.sets import Sample
from benchmarks.suite import Check, Group, Suite, cell
from refsynth.core.run import derive_seed, digest
from refsynth.core.types import FloatArray, IntArray
from refsynth.data.language import detect_language
from refsynth.metrics import accuracy, softmax
from refsynth.models.catalog import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.store import ModelStore
from refsynth.training.head import HEAD_STRENGTH, fit_head

SETS = ("banking77", "financial_phrasebank")
EVERY = 10**9
"""Labelled rows per class that are read: all of them are the pool."""

LEAST_BATCH, ROUNDS = 10, 30
"""Labels of a round, or as many as there are classes; and rounds."""

SHARE = 0.9
"""Of the accuracy with all labels, which is to be reached."""

WHOLE = "all labels"


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started, k = time.monotonic(), len(sample.labels)
    features = _embeddings([row["text"] for row in (*sample.train, *sample.test)], name)
    pool, test = features[: len(sample.train)], features[len(sample.train) :]
    truth, answers = sample.classes(sample.train), sample.classes(sample.test)
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
    labelled = np.random.default_rng(derive_seed(seed, "active")).permutation(len(pool))[:batch]
    said = []
    for number in range(ROUNDS):
        head = _fit(pool, truth, labelled, k)
        said.append(head.logits(test).argmax(1))
        free = np.setdiff1d(np.arange(len(pool)), labelled)
        view = Pool(softmax(head.logits(pool[free])), pool[free], pool[labelled])
        chosen = choose(strategy, view, batch, seed=derive_seed(seed, strategy, number))
        labelled = np.concatenate([labelled, free[chosen.places]])
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


def _embeddings(texts: list[str], name: str) -> FloatArray:
    """Return the embeddings of texts, from disk where they have been computed before."""
    spec = encoder_for(detect_language(texts))
    distinct = sorted(set(texts))
    file = BENCH / "embeddings" / f"{name}-{digest([spec.name, distinct])[:12]}.npy"
    if not file.exists():
        encoder = TransformerEncoder(ModelStore().path(spec.name), prefix=spec.prefix, max_tokens=spec.max_tokens)
        file.parent.mkdir(parents=True, exist_ok=True)
        _keep(file, np.asarray(encoder.encode(distinct), np.float32))
    place = {text: number for number, text in enumerate(distinct)}
    return np.asarray(np.load(file)[[place[text] for text in texts]], float)


def _keep(file: Path, values: FloatArray) -> None:
    partial = file.with_suffix(".partial.npy")
    np.save(partial, values)
    partial.replace(file)


def _savings(cells: Cells) -> list[dict[str, Any]]:
    """Return a check for each strategy: how many labels fewer than random it needs; who never gets there needs all rounds."""
    return [_saving(cells, name) for name in STRATEGIES if name != "random"]


def _saving(cells: Cells, name: str) -> dict[str, Any]:
    shares = []
    for one in cells.find(system=name):
        for other in cells.find(system="random", **{key: one[key] for key in ("set", "seed", "rows", "version")}):
            mine, theirs = (each["labels"] or len(each["curve"]) * each["batch"] for each in (one, other))
            shares.append((one["set"], 100 * (1 - mine / theirs)))
    saved = figure(means(shares), "% fewer labels", over="data sets")
    return {"name": f"{name} against random", **saved, "floor": 0.0, "aim": 20.0, "ok": saved["value"] >= 0}


ACTIVE = Suite(
    "active",
    sets=SETS,
    groups=(Group(_measure, (WHOLE, *STRATEGIES), "refsynth"),),
    order=(WHOLE, *STRATEGIES),
    checks=(Check("hybrid over random, mean of rounds", "hybrid", "random", floor=0.0, aim=2.0),),
    shots=EVERY,
    more=_savings,
)
