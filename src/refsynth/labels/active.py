"""Active learning: which texts of an unlabeled pool a person should label next, and when to stop.

A strategy is a pure function of a model's probabilities on the pool [N, K], and of embeddings of the pool [N, D] and of the
labeled rows [M, D]. `STRATEGIES` lists all strategies; `choose` applies one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from refsynth.core.extras import require
from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import squared_distances

StrategyName = Literal["uncertainty", "margin", "entropy", "coreset", "badge", "hybrid", "random"]

OVERSAMPLE = 10
"""The hybrid strategy clusters this many times the requested number of texts, the least certain ones (Zhdanov, 2019)."""

STABLE, WINDOW = 0.99, 3
"""Stop if mean kappa over the last `WINDOW` rounds is at least `STABLE` (Bloodgood and Vijay-Shanker, 2009, section 4)."""


class CandidatePool(NamedTuple):
    """The input of a strategy.

    Attributes:
        probabilities: of the pool [N, K].
        features: embeddings of the pool [N, D]; D may be 0 for a strategy without embeddings.
        labeled: embeddings of the labeled rows [M, D].
        several: whether a text may have any number of labels. Each label is then a binary decision with threshold 0.5, see
            `centered`.
    """

    probabilities: FloatArray
    features: FloatArray
    labeled: FloatArray
    several: bool = False


class Selection(NamedTuple):
    """The positions of the chosen texts in the pool, best first [n], and their scores, higher is better [n]."""

    places: IntArray
    scores: FloatArray


class Strategy(NamedTuple):
    """A strategy.

    Attributes:
        embeds: whether it needs embeddings.
        score: what its score means, in words.
        of_set: the same if a text may have any number of labels.
    """

    choose: Callable[[CandidatePool, int, np.random.Generator], Selection]
    embeds: bool
    score: str
    of_set: str


def choose(name: StrategyName, pool: CandidatePool, n: int, *, seed: int) -> Selection:
    """Return the `n` texts of the pool that a strategy chooses, or all texts of a smaller pool."""
    size = min(n, len(pool.probabilities))
    if not size:
        return Selection(np.zeros(0, int), np.zeros(0))
    return STRATEGIES[name].choose(pool, size, np.random.default_rng(seed))


def centered(probabilities: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Return probabilities [N, K] rescaled so that the decision thresholds [K] become 0.5: their odds are divided."""
    yes, no = probabilities * (1 - thresholds), (1 - probabilities) * thresholds
    total = yes + no
    return np.asarray(np.divide(yes, total, out=np.full_like(total, 0.5), where=total > 0))


def least_confidence(pool: CandidatePool) -> FloatArray:
    """Return 1 - p of the most likely label, or of the most likely set of labels [N]."""
    p = pool.probabilities
    return np.asarray(1 - (np.maximum(p, 1 - p).prod(1) if pool.several else p.max(1)))


def margin(pool: CandidatePool) -> FloatArray:
    """Return 1 - the difference of the two most likely labels, or of yes and no for the closest label (Brinker, 2006) [N]."""
    if pool.several:
        return np.asarray(1 - np.abs(2 * pool.probabilities - 1).min(1))
    best = np.sort(pool.probabilities, axis=1)
    return np.asarray(1 - (best[:, -1] - best[:, -2]))


def entropy(pool: CandidatePool) -> FloatArray:
    """Return the entropy as a share of that of the uniform distribution [N]; for sets of labels, the mean over labels."""
    p = pool.probabilities
    if pool.several:
        return np.asarray(((_surprise(p) + _surprise(1 - p)) / np.log(2)).mean(1))
    return np.asarray(_surprise(p).sum(1) / np.log(p.shape[1]))


def _surprise(p: FloatArray) -> FloatArray:
    """Return -p log p, 0 for 0."""
    return np.asarray(-p * np.log(p, where=p > 0, out=np.zeros_like(p)))


def _highest(measure: Callable[[CandidatePool], FloatArray]) -> Callable[[CandidatePool, int, np.random.Generator], Selection]:
    def pick(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
        del rng
        scores = measure(pool)
        places = np.argsort(-scores, kind="stable")[:n]
        return Selection(places, scores[places])

    return pick


def _coreset(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    """k-center greedy (Sener and Savarese, 2018, algorithm 1): the text that is farthest from all labeled and chosen ones.

    The largest distance of a text to its nearest center is at most twice the optimum. The score is that distance.
    """
    del rng
    x = np.asarray(pool.features, float)

    def distances(place: int) -> FloatArray:
        return squared_distances(x, x[place : place + 1])[:, 0]

    nearest: FloatArray | None = None
    if len(pool.labeled):
        nearest = squared_distances(x, np.asarray(pool.labeled, float)).min(1)
        first = int(nearest.argmax())
    else:
        first = int(squared_distances(x, x.mean(0, keepdims=True)).argmin())
    return _one_by_one(n, first, nearest, distances, lambda free: int(free.argmax()))


def _badge(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    """BADGE (Ash et al., 2020, algorithm 1): k-means++ on the gradients of a linear head with its own answers as labels.

    The gradient of row i is the outer product of r_i = p_i - onehot(answer_i) [K] and x_i [D]. The inner product of two gradients
    is (r_i . r_j)(x_i . x_j), so that the N K D numbers are never stored. The score is the distance to the nearest chosen text.
    """
    r, x = np.array(pool.probabilities, float), np.asarray(pool.features, float)
    if pool.several:
        r -= r >= 0.5
    else:
        r[np.arange(len(r)), r.argmax(1)] -= 1
    size = (r**2).sum(1) * (x**2).sum(1)

    def distances(place: int) -> FloatArray:
        return np.asarray(np.maximum(size + size[place] - 2 * (r @ r[place]) * (x @ x[place]), 0))

    return _one_by_one(n, int(size.argmax()), None, distances, lambda free: int(rng.choice(len(free), p=free / free.sum())))


def _one_by_one(
    n: int, first: int, nearest: FloatArray | None, distances: Callable[[int], FloatArray], pick: Callable[[FloatArray], int]
) -> Selection:
    """Choose texts one at a time by their squared distances to the nearest center.

    Args:
        n: number of texts.
        first: position of the first.
        nearest: squared distances to the nearest existing center [N]; None without centers.
        distances: returns the squared distances to the text at a position [N].
        pick: picks the next by the distances [N], which are 0 for chosen texts and not all 0.
    """
    places, scores, free = [first], [], np.ones(len(distances(first)), bool)
    while True:
        latest = distances(places[-1])
        scores.append(float(np.sqrt(latest.max() if nearest is None else nearest[places[-1]])))
        nearest = latest if nearest is None else np.minimum(nearest, latest)
        free[places[-1]] = False
        if len(places) == n:
            return Selection(np.array(places), np.array(scores))
        weights = np.where(free, nearest, 0.0)
        places.append(pick(weights) if weights.any() else int(np.flatnonzero(free)[0]))  # only copies of chosen texts are left


def _hybrid(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    """Clusters the least certain texts, weighted by uncertainty, and takes from each cluster the text nearest to its center.

    Zhdanov, 2019, "Diverse mini-batch Active Learning". The score is that of `margin`.
    """
    cluster = require("sklearn.cluster", extra="train")
    uncertainty = margin(pool)
    least = np.argsort(-uncertainty, kind="stable")[: OVERSAMPLE * n]
    x, weights = np.asarray(pool.features, float)[least], np.maximum(uncertainty[least], 1e-6)
    k = min(n, len(np.unique(x, axis=0)))
    centers = cluster.KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit(x, sample_weight=weights).cluster_centers_
    distances, chosen = squared_distances(x, centers), np.zeros(len(least), bool)
    for column in range(k):
        chosen[int(np.where(chosen, np.inf, distances[:, column]).argmin())] = True
    chosen[np.flatnonzero(~chosen)[: n - k]] = True  # copies of chosen texts: the least certain ones
    return Selection(least[chosen], uncertainty[least[chosen]])


def _random(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    return Selection(rng.permutation(len(pool.probabilities))[:n], np.zeros(n))


_FAR, _GRADIENT = "distance to the nearest labeled or chosen text", "distance of gradients to the nearest chosen text"
_EVEN, _EVEN_SET = "entropy of the labels, as a share of the maximum", "entropy of yes or no, the mean over labels"
_CLOSE = "1 - difference between the two most likely labels"
_CLOSE_SET = "1 - difference between yes and no for the least certain label"
_CLUSTER = "one text per cluster"
_LEAST, _LEAST_SET = "1 - probability of the most likely label", "1 - probability of the most likely set of labels"

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "uncertainty": Strategy(_highest(least_confidence), False, _LEAST, _LEAST_SET),
    "margin": Strategy(_highest(margin), False, _CLOSE, _CLOSE_SET),
    "entropy": Strategy(_highest(entropy), False, _EVEN, _EVEN_SET),
    "coreset": Strategy(_coreset, True, _FAR, _FAR),
    "badge": Strategy(_badge, True, _GRADIENT, _GRADIENT),
    "hybrid": Strategy(_hybrid, True, f"{_CLOSE}; {_CLUSTER}", f"{_CLOSE_SET}; {_CLUSTER}"),
    "random": Strategy(_random, False, "drawn at random", "drawn at random"),
}


def kappa(before: IntArray, after: IntArray) -> float:
    """Return Cohen's kappa of two models' answers to the same texts [N]: 1 if all agree, 0 if as many as by chance."""
    classes = int(max(before.max(), after.max())) + 1
    shares = [np.bincount(answers, minlength=classes) / len(answers) for answers in (before, after)]
    observed, expected = float((before == after).mean()), float(shares[0] @ shares[1])
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def stable(kappas: Sequence[float]) -> bool:
    """Return whether new labels no longer change the model, given kappa between consecutive rounds."""
    return len(kappas) >= WINDOW and float(np.mean(kappas[-WINDOW:])) >= STABLE
