"""Active learning: which texts of an unlabelled pool a person should label next, and when it is time to stop.

A strategy is a pure function of what a model says of the pool (probabilities [N, K]) and of embeddings of the pool [N, D] and of
the rows that are labelled already [M, D]. `STRATEGIES` is the table of all; `choose` applies one.
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
"""The hybrid strategy clusters so many times the texts that it is to choose: the least certain ones (Zhdanov, 2019)."""

STABLE, WINDOW = 0.99, 3
"""Labels stop paying where kappa has averaged so much over so many rounds (Bloodgood and Vijay-Shanker, 2009, section 4)."""


class CandidatePool(NamedTuple):
    """What a strategy may look at: probabilities [N, K], embeddings of the pool [N, D] and of labelled rows [M, D].

    The embeddings may have D = 0 for a strategy that does not look at them. With `several` a text may have any number of labels:
    each probability is that of a question of its own, and where the model begins to say yes it is 0.5 (see `centred`).
    """

    probabilities: FloatArray
    features: FloatArray
    labelled: FloatArray
    several: bool = False


class Selection(NamedTuple):
    """The places of the chosen texts in the pool [n], the most wanted first, and why: a score each, higher is more wanted [n]."""

    places: IntArray
    scores: FloatArray


class Strategy(NamedTuple):
    """How to choose, whether it looks at embeddings, and what its score is, in words for a person; `of_set` of several labels."""

    choose: Callable[[CandidatePool, int, np.random.Generator], Selection]
    embeds: bool
    score: str
    of_set: str


def choose(name: StrategyName, pool: CandidatePool, n: int, *, seed: int) -> Selection:
    """Return the `n` texts of the pool (all of a smaller one) that a strategy wants labelled; of 0, none."""
    wanted = min(n, len(pool.probabilities))
    if not wanted:
        return Selection(np.zeros(0, int), np.zeros(0))
    return STRATEGIES[name].choose(pool, wanted, np.random.default_rng(seed))


def centred(probabilities: FloatArray, cuts: FloatArray) -> FloatArray:
    """Return probabilities [N, K] with their odds divided by those of the cuts [K], from which on a label is said."""
    yes, no = probabilities * (1 - cuts), (1 - probabilities) * cuts
    total = yes + no
    return np.asarray(np.divide(yes, total, out=np.full_like(total, 0.5), where=total > 0))


def least_confidence(pool: CandidatePool) -> FloatArray:
    """Return 1 - p of the likeliest label, or of the answers to all questions together [N]."""
    p = pool.probabilities
    return np.asarray(1 - (np.maximum(p, 1 - p).prod(1) if pool.several else p.max(1)))


def margin(pool: CandidatePool) -> FloatArray:
    """Return 1 less the distance of the two likeliest labels, or of yes and no where that is least (Brinker, 2006) [N]."""
    if pool.several:
        return np.asarray(1 - np.abs(2 * pool.probabilities - 1).min(1))
    best = np.sort(pool.probabilities, axis=1)
    return np.asarray(1 - (best[:, -1] - best[:, -2]))


def entropy(pool: CandidatePool) -> FloatArray:
    """Return the entropy as a share of that of an even guess [N]; the mean over questions where there are several."""
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
    """k-centre greedy (Sener and Savarese, 2018, algorithm 1): the text that is farthest from all labelled and chosen ones.

    The largest distance of any text to the nearest centre is then at most twice the least possible. The score is the distance.
    """
    del rng
    x = np.asarray(pool.features, float)

    def reach(place: int) -> FloatArray:
        return squared_distances(x, x[place : place + 1])[:, 0]

    if len(pool.labelled):
        nearest = squared_distances(x, np.asarray(pool.labelled, float)).min(1)
        return _one_by_one(n, int(nearest.argmax()), nearest, reach, lambda left: int(left.argmax()))
    middle = int(squared_distances(x, x.mean(0, keepdims=True)).argmin())
    return _one_by_one(n, middle, None, reach, lambda left: int(left.argmax()))


def _badge(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    """BADGE (Ash et al., 2020, algorithm 1): k-means++ on the gradients that a linear head would get from its own answers.

    The gradient of row i is the outer product of r_i = p_i - answer_i [K], 1 for what is said, and x_i [D]. A product of two
    gradients is (r_i . r_j)(x_i . x_j), so that the N K D numbers are never made. The score is the distance to the nearest one
    that is chosen.
    """
    r, x = np.array(pool.probabilities, float), np.asarray(pool.features, float)
    if pool.several:
        r -= r >= 0.5
    else:
        r[np.arange(len(r)), r.argmax(1)] -= 1
    size = (r**2).sum(1) * (x**2).sum(1)

    def reach(place: int) -> FloatArray:
        return np.asarray(np.maximum(size + size[place] - 2 * (r @ r[place]) * (x @ x[place]), 0))

    return _one_by_one(n, int(size.argmax()), None, reach, lambda left: int(rng.choice(len(left), p=left / left.sum())))


def _one_by_one(
    n: int, first: int, nearest: FloatArray | None, reach: Callable[[int], FloatArray], pick: Callable[[FloatArray], int]
) -> Selection:
    """Choose one after another by the squared distances to the nearest centre.

    Args:
        n: how many.
        first: the first.
        nearest: squared distances to the centres that there are already [N]; None for none.
        reach: returns the squared distances to a place [N].
        pick: picks the next by the distances [N], which are 0 for what is chosen; not asked where all are.
    """
    places, scores, free = [first], [], np.ones(len(reach(first)), bool)
    while True:
        apart = reach(places[-1])
        scores.append(float(np.sqrt(apart.max() if nearest is None else nearest[places[-1]])))
        nearest = apart if nearest is None else np.minimum(nearest, apart)
        free[places[-1]] = False
        if len(places) == n:
            return Selection(np.array(places), np.array(scores))
        left = np.where(free, nearest, 0.0)
        places.append(pick(left) if left.any() else int(np.flatnonzero(free)[0]))  # only copies of chosen texts are left


def _hybrid(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    """Clusters of the least certain texts, weighted by how uncertain they are; of each cluster the text nearest to its centre.

    Zhdanov, 2019, "Diverse mini-batch Active Learning". The score is the margin's.
    """
    cluster = require("sklearn.cluster", extra="train")
    unsure = margin(pool)
    some = np.argsort(-unsure, kind="stable")[: OVERSAMPLE * n]
    x, weights = np.asarray(pool.features, float)[some], np.maximum(unsure[some], 1e-6)
    k = min(n, len(np.unique(x, axis=0)))
    centres = cluster.KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit(x, sample_weight=weights).cluster_centers_
    apart, chosen = squared_distances(x, centres), np.zeros(len(some), bool)
    for column in range(k):
        chosen[int(np.where(chosen, np.inf, apart[:, column]).argmin())] = True
    chosen[np.flatnonzero(~chosen)[: n - k]] = True  # copies: the least certain of them
    return Selection(some[chosen], unsure[some[chosen]])


def _random(pool: CandidatePool, n: int, rng: np.random.Generator) -> Selection:
    return Selection(rng.permutation(len(pool.probabilities))[:n], np.zeros(n))


FAR, TAUGHT = "distance to the nearest labelled or chosen text", "distance to the nearest chosen text, in what it would teach"
EVEN, EVEN_EACH = "entropy of the labels, as a share of an even guess", "entropy of yes or no, the mean over labels"
CLOSE, CLOSEST = "1 - distance between the two likeliest labels", "1 - distance between yes and no of the least certain label"
EACH = "one of each group of texts"

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "uncertainty": Strategy(
        _highest(least_confidence), False, "1 - probability of the likeliest label", "1 - probability of all yes and no together"
    ),
    "margin": Strategy(_highest(margin), False, CLOSE, CLOSEST),
    "entropy": Strategy(_highest(entropy), False, EVEN, EVEN_EACH),
    "coreset": Strategy(_coreset, True, FAR, FAR),
    "badge": Strategy(_badge, True, TAUGHT, TAUGHT),
    "hybrid": Strategy(_hybrid, True, f"{CLOSE}; {EACH}", f"{CLOSEST}; {EACH}"),
    "random": Strategy(_random, False, "drawn at random", "drawn at random"),
}


def kappa(before: IntArray, after: IntArray) -> float:
    """Return Cohen's kappa of two models' answers to the same texts [N]: 1 where they are the same, 0 as often as by chance."""
    classes = int(max(before.max(), after.max())) + 1
    shares = [np.bincount(said, minlength=classes) / len(said) for said in (before, after)]
    observed, expected = float((before == after).mean()), float(shares[0] @ shares[1])
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def stable(kappas: Sequence[float]) -> bool:
    """Return whether labels have stopped changing the model, given kappa between each round and the one before it."""
    return len(kappas) >= WINDOW and float(np.mean(kappas[-WINDOW:])) >= STABLE
