"""Combines the votes of several noisy sources: by majority, or with the model of Dawid and Skene, fitted by EM.

Dawid and Skene, 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm": an item has one true class,
k with probability prior_k. Source j votes l for an item of class k with probability confusion_jkl, independently of the other
sources. A missing vote is no evidence. Computed with logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import softmax

RIGHT, WRONG = 1.0, 0.5
"""Pseudo-votes of each source for each class, right ones and wrong ones in total: they smooth the estimates from few votes."""

TOLERANCE, ROUNDS = 1e-6, 1000
"""EM ends when no posterior changes by `TOLERANCE` or more, or after `ROUNDS` rounds."""


class Votes(NamedTuple):
    """V votes: the item [V], source [V] and class [V] of each, as indices into N items, J sources and K classes."""

    items: IntArray
    sources: IntArray
    classes: IntArray
    n: int
    j: int
    k: int


class Consensus(NamedTuple):
    """Posteriors of the items [N, K], shares of the classes [K], and distribution of votes by true class [J, K (true), K]."""

    posterior: FloatArray
    prior: FloatArray
    confusion: FloatArray

    @property
    def accuracy(self) -> FloatArray:
        """The accuracy of each source on items with these shares of classes [J]."""
        return np.asarray(np.einsum("k,jkk->j", self.prior, self.confusion))


class CombinedLabel(NamedTuple):
    """A text with its combined label, the label's probability, and the number of votes."""

    text: str
    label: str
    confidence: float
    votes: int


def join(
    texts: Sequence[str], labels: Sequence[str], votes: Votes, posterior: FloatArray, *, least: float
) -> list[CombinedLabel]:
    """Return the texts that have votes and whose label is more probable than `least`."""
    count = np.bincount(votes.items, minlength=votes.n).tolist()
    rows = zip(texts, posterior, count, strict=True)
    return [CombinedLabel(text, labels[p.argmax()], round(float(p.max()), 4), n) for text, p, n in rows if n and p.max() > least]


def majority(votes: Votes) -> FloatArray:
    """Return the share of each class among the votes for each item [N, K]; uniform for an item without votes."""
    counts = np.zeros((votes.n, votes.k))
    np.add.at(counts, (votes.items, votes.classes), 1.0)
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / votes.k)


def dawid_skene(votes: Votes) -> Consensus:
    """Fit the model of Dawid and Skene to votes, starting from the majority."""
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
    """Return the expected votes of each source by true class, given the posteriors [J, K, K]."""
    smoothing = np.full((votes.k, votes.k), WRONG / max(1, votes.k - 1))
    np.fill_diagonal(smoothing, RIGHT)
    counts = tally(votes, posterior) + smoothing
    return np.asarray(counts / counts.sum(2, keepdims=True))


def tally(votes: Votes, posterior: FloatArray) -> FloatArray:
    """Return the expected number of votes of each source by true class and voted class [J, K, K]."""
    counts = np.zeros((votes.j, votes.k, votes.k))
    np.add.at(counts, (votes.sources, votes.classes), posterior[votes.items])
    return counts.swapaxes(1, 2)
