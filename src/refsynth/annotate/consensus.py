"""What several sources that err say together: majority vote, and the model of Dawid and Skene fitted by EM.

Dawid and Skene, 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm": an item has one true class,
k with probability prior_k; source j says l of an item of class k with probability confusion_jkl, whatever the other sources say.
A source that says nothing of an item tells nothing about it. Computed on logarithms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray
from refsynth.metrics import softmax

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


def majority(votes: Votes) -> FloatArray:
    """Return the share of each class among the votes for each item [N, K]; an even guess where there are none."""
    counts = np.zeros((votes.n, votes.k))
    np.add.at(counts, (votes.items, votes.classes), 1.0)
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / votes.k)


def dawid_skene(votes: Votes, *, even: bool = False, balance: FloatArray | None = None) -> Consensus:
    """Fit the model to votes, from the majority's answers.

    Args:
        votes: of all sources.
        even: whether a source errs equally often whatever the class, and as often to any wrong one: one number per source
            instead of K^2, for sources that know one class only (Ratner et al., 2016, "Data Programming", section 3).
        balance: the shares of the classes [K], if known; estimated if None.
    """
    posterior = majority(votes)
    for _ in range(ROUNDS):
        prior = (posterior.sum(0) + 1) / (votes.n + votes.k) if balance is None else balance
        confusion = _confusion(votes, posterior, even=even)
        logs = np.tile(np.log(prior), (votes.n, 1))
        np.add.at(logs, votes.items, np.log(confusion)[votes.sources, :, votes.classes])
        before, posterior = posterior, softmax(logs)
        if not votes.n or np.abs(posterior - before).max() < TOLERANCE:
            break
    return Consensus(posterior, prior, confusion)


def _confusion(votes: Votes, posterior: FloatArray, *, even: bool) -> FloatArray:
    """Return the sources' expected answers, given what the items are believed to be [J, K, K]."""
    k, own = votes.k, np.arange(votes.k)
    counts = tally(votes, posterior) + WRONG / max(1, k - 1)
    counts[:, own, own] += RIGHT - WRONG / max(1, k - 1)
    if not even:
        return np.asarray(counts / counts.sum(2, keepdims=True))
    right = counts[:, own, own].sum(1) / counts.sum((1, 2))
    out = np.repeat(((1 - right) / max(1, k - 1))[:, None], k * k, axis=1).reshape(votes.j, k, k)
    out[:, own, own] = right[:, None]
    return out


def tally(votes: Votes, posterior: FloatArray) -> FloatArray:
    """Return how often each source said a class of items of each class, as far as the items' classes are known [J, K, K]."""
    counts = np.zeros((votes.j, votes.k, votes.k))
    np.add.at(counts, (votes.sources, votes.classes), posterior[votes.items])
    return counts.swapaxes(1, 2)
