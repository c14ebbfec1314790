"""Several annotators and rules with known errors: are the errors recovered, and do the labels beat a majority vote?

The labels of real data sets, with their shares, are what is to be found; votes are drawn from annotators and rules whose errors
are known. Nothing is learned from texts here, so nothing is read of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import MEANS, Check, at_most, figure, markdown, shown
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell, over_each
from refsynth.core.hashes import derive_seed
from refsynth.core.types import FloatArray, IntArray
from refsynth.labels.consensus import Votes, dawid_skene, majority
from refsynth.labels.weak import RuleVotes, weigh_rules

SETS = ("financial_phrasebank", "ag_news_test", "snips", "banking77")
BUDGET = 1
TIMED = False
TEXTS = 1000
ANNOTATORS, VOTES = 10, 5
"""Annotators of a crowd, and how many of them see each text."""

RULES_PER_LABEL, COVERAGE = 5, (0.1, 0.5)
"""Rules for each label, and of how large a share of that label's texts each speaks, where it is right."""


class Recovered(NamedTuple):
    """What two ways say of the texts [N], and how far what was found of annotators or rules is from the truth, in points.

    `error` is of the accuracies, in the mean; `apart` of the confusion: how much of an annotator's answers are others
    (total variation, in the mean over texts), NaN for rules, which have none.
    """

    plain: IntArray
    ours: IntArray
    error: float
    apart: float = float("nan")


def _alike(k: int, rng: np.random.Generator) -> FloatArray:
    """Return annotators who are right three times of four [J, K, K]."""
    del rng
    return _even(np.full(ANNOTATORS, 0.75), k)


def _unequal(k: int, rng: np.random.Generator) -> FloatArray:
    """Return annotators of whom some know and some guess [J, K, K]."""
    return _even(rng.uniform(0.3, 0.95, ANNOTATORS), k)


def _confused(k: int, rng: np.random.Generator) -> FloatArray:
    """Return annotators who each take labels for certain others [J, K, K]."""
    wrong = rng.dirichlet(np.full(k, 0.2), (ANNOTATORS, k))
    right = rng.uniform(0.4, 0.9, (ANNOTATORS, k, 1))
    return np.asarray(right * np.eye(k) + (1 - right) * wrong)


def _even(right: FloatArray, k: int) -> FloatArray:
    share = right[:, None, None]
    return np.asarray(share * np.eye(k) + (1 - share) / (k - 1) * (1 - np.eye(k)))


CROWDS: Mapping[str, Callable[[int, np.random.Generator], FloatArray]] = {
    "annotators alike": _alike,
    "annotators unequal": _unequal,
    "annotators who confuse labels": _confused,
}
RULES = "rules"


def asked(truth: IntArray, confusion: FloatArray, rng: np.random.Generator) -> Votes:
    """Return what annotators with known errors [J, K, K] say of texts of known classes [N], `VOTES` of them of each text."""
    j, k = confusion.shape[:2]
    sources = np.concatenate([rng.permutation(j)[:VOTES] for _ in truth])
    items = np.repeat(np.arange(len(truth)), VOTES)
    classes = np.array([rng.choice(k, p=confusion[who, truth[item]]) for item, who in zip(items, sources, strict=True)])
    return Votes(items, sources, classes, len(truth), j, k)


def _crowd(truth: IntArray, confusion: FloatArray, rng: np.random.Generator) -> Recovered:
    votes, k = asked(truth, confusion, rng), confusion.shape[1]
    fitted = dawid_skene(votes)
    prior = np.bincount(truth, minlength=k) / len(truth)
    right = np.einsum("k,jkk->j", prior, confusion)
    error = np.abs(fitted.accuracy - right).mean()
    apart = (np.abs(fitted.confusion - confusion).sum(2) / 2 @ prior).mean()
    return Recovered(_first(majority(votes), rng), fitted.posterior.argmax(1), 100 * float(error), 100 * float(apart))


def _rules(truth: IntArray, k: int, rng: np.random.Generator) -> Recovered:
    """Let rules speak that each say one label, right as often as is drawn; their balance is that of the texts."""
    labels = np.repeat(np.arange(k), RULES_PER_LABEL)
    right, speaks = rng.uniform(0.4, 0.95, len(labels)), rng.uniform(*COVERAGE, len(labels))
    shares = np.bincount(truth, minlength=k) / len(truth)
    # Right with probability `right` when it speaks: of the other labels' texts it takes so many that Bayes' rule gives that.
    wrong = np.minimum(1.0, speaks * shares[labels] * (1 - right) / (right * (1 - shares[labels])))
    chance = np.where(truth[:, None] == labels[None, :], speaks, wrong)
    items, sources = np.nonzero(rng.random(chance.shape) < chance)
    votes = Votes(items, sources, labels[sources], len(truth), len(labels), k)
    names = tuple(f"{number:03d}" for number in range(k))
    weighed = weigh_rules(
        RuleVotes(votes, names), {name: float(max(share, 1e-6)) for name, share in zip(names, shares, strict=True)}
    )
    hits = np.bincount(sources, truth[items] == labels[sources], minlength=len(labels))
    said = np.bincount(sources, minlength=len(labels))
    spoke = said > 0
    error = np.abs(weighed.accuracy[spoke] - hits[spoke] / said[spoke]).mean()
    return Recovered(_first(majority(votes), rng), weighed.posterior.argmax(1), 100 * float(error))


def _first(shares: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return the class of most votes; of several, one by lot [N]."""
    return np.asarray((shares + 1e-9 * rng.random(shares.shape)).argmax(1))


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    truth, k = sample.truth, len(sample.labels)
    cells = []
    for who in (*CROWDS, RULES):
        started = time.monotonic()
        rng = np.random.default_rng(derive_seed(seed, "crowds", name, who))
        found = _rules(truth, k, rng) if who == RULES else _crowd(truth, CROWDS[who](k, rng), rng)
        seconds = time.monotonic() - started
        cells.append(cell(_plainly(who), truth, found.plain, seconds, k))
        cells.append(cell(_modelled(who), truth, found.ours, seconds, k) | {"error": found.error, "apart": found.apart})
    return cells


def _plainly(who: str) -> str:
    return f"{who}: majority"


def _modelled(who: str) -> str:
    return f"{who}: {'weighed' if who == RULES else 'Dawid-Skene'}"


def _errors(cells: Cells) -> str:
    """Return how far what was found is from the truth, in points: the accuracies, and the confusion of annotators."""
    names = list(dict.fromkeys(one["set"] for one in cells.rows))
    rows = []
    for who in (*CROWDS, RULES):
        for what, key in (("accuracy", "error"), ("confusion", "apart")):
            found = [[one[key] for one in cells.find(set=name, system=_modelled(who))] for name in names]
            if found and not np.isnan(np.concatenate(found)).any():
                rows.append([f"{who}: {what}", *map(shown, found)])
    return markdown([f"found against true, in points: {MEANS}", *names], rows)


def _recovered(cells: Cells) -> list[Check]:
    found = {who: over_each(cells.find(system=_modelled(who)), "error") for who in (*CROWDS, RULES)}
    return [
        at_most(f"error of accuracies, {who}", figure(errors, "points", over="data sets"), 10.0 if who == RULES else 3.0)
        for who, errors in found.items()
    ]


ORDER = tuple(name for who in (*CROWDS, RULES) for name in (_plainly(who), _modelled(who)))

SUITE = Suite(
    SETS,
    groups=(Group(_measure, ORDER),),
    order=ORDER,
    held=tuple(
        Over(f"model over majority, {who}", _modelled(who), _plainly(who), floor=0.0, aim=2.0) for who in (*CROWDS, RULES)
    ),
    quick=SETS,
    more=_recovered,
    notes=_errors,
    test_rows=TEXTS,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
