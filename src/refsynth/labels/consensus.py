"""What several sources that err say together: majority vote, and the model of Dawid and Skene fitted by EM.

Dawid and Skene, 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm": an item has one true class,
k with probability prior_k; source j says l of an item of class k with probability confusion_jkl, whatever the other sources say.
A source that says nothing of an item tells nothing about it. Computed on logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import softmax

RIGHT, WRONG = 1.0, 0.5
"""Imagined votes for each class of each source, right ones and all wrong ones together: few real ones prove little."""

TOLERANCE, ROUNDS = 1e-6, 1000
"""EM ends when no posterior moves by more, or after so many rounds."""


class Votes(NamedTuple):
    """V votes: of which of N items [V], by which of J sources [V], for which of K classes [V]."""

    items: IntArray
    sources: IntArray
    classes: IntArray
    n: int
    j: int
    k: int


class Consensus(NamedTuple):
    """Posteriors of the items [N, K], shares of the classes [K], what each source says of each class [J, K, K] (class, said)."""

    posterior: FloatArray
    prior: FloatArray
    confusion: FloatArray

    @property
    def accuracy(self) -> FloatArray:
        """How often each source is right, over items as they come [J]."""
        return np.asarray(np.einsum("k,jkk->j", self.prior, self.confusion))


class CombinedLabel(NamedTuple):
    """One text with the label that its votes give, how probable that is, and how many votes there were."""

    text: str
    label: str
    confidence: float
    votes: int


def join(
    texts: Sequence[str], labels: Sequence[str], votes: Votes, posterior: FloatArray, *, least: float
) -> list[CombinedLabel]:
    """Return the texts [N] that have votes and whose label is more probable than `least`."""
    count = np.bincount(votes.items, minlength=votes.n).tolist()
    rows = zip(texts, posterior, count, strict=True)
    return [CombinedLabel(text, labels[p.argmax()], round(float(p.max()), 4), n) for text, p, n in rows if n and p.max() > least]


def majority(votes: Votes) -> FloatArray:
    """Return the share of each class among the votes for each item [N, K]; an even guess where there are none."""
    counts = np.zeros((votes.n, votes.k))
    np.add.at(counts, (votes.items, votes.classes), 1.0)
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / votes.k)


def dawid_skene(votes: Votes) -> Consensus:
    """Fit the model to votes, from the majority's answers."""
    posterior = majority(votes)
    for _ in range(ROUNDS):
        prior = (posterior.sum(0) + 1) / (votes.n + votes.k)
        confusion = _confusion(votes, posterior)
        logs = np.tile(np.log(prior), (votes.n, 1))
        np.add.at(logs, votes.items, np.log(confusion)[votes.sources, :, votes.classes])
        before, posterior = posterior, softmax(logs)
        if not votes.n or np.abs(posterior - before).max() < TOLERANCE:
            break
    return Consensus(posterior, prior, confusion)


def _confusion(votes: Votes, posterior: FloatArray) -> FloatArray:
    """Return the sources' expected answers, given what the items are believed to be [J, K, K]."""
    imagined = np.full((votes.k, votes.k), WRONG / max(1, votes.k - 1))
    np.fill_diagonal(imagined, RIGHT)
    counts = tally(votes, posterior) + imagined
    return np.asarray(counts / counts.sum(2, keepdims=True))


def tally(votes: Votes, posterior: FloatArray) -> FloatArray:
    """Return how often each source said a class of items of each class, as far as the items' classes are known [J, K, K]."""
    counts = np.zeros((votes.j, votes.k, votes.k))
    np.add.at(counts, (votes.sources, votes.classes), posterior[votes.items])
    return counts.swapaxes(1, 2)
