"""What a form keeps of the whole model: its macro-F1 over the model's on the same rows, with an interval. Arrays alone.

The interval is a percentile bootstrap (Efron, 1979) of the ratio: rows, or groups of rows that belong together, are drawn for
both at once, so that what makes a row hard for both cancels. A form that was chosen among several that were measured has its
interval at the level 1 - 0.05 / M of M forms (Bonferroni): all M hold together 95 times of 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds import Counts

RESAMPLES = 5000
CHUNK = 500
"""Resamples at a time: bounds the weights, resamples by rows."""

DOUBT = 0.05


class Interval(NamedTuple):
    """Where a share kept lies, by `n` rows or texts, when it was chosen by measuring `tried` forms."""

    low: float
    high: float
    n: int
    tried: int = 1

    @property
    def level(self) -> float:
        """The confidence of this interval alone."""
        return 1 - DOUBT / self.tried

    def __str__(self) -> str:
        chosen = f", 95% for all {self.tried} forms that were measured" if self.tried > 1 else ""
        return f"[{self.low:.1%}, {self.high:.1%}{chosen}]"


class Kept(NamedTuple):
    """A share kept, by `n` rows or texts, and what it was in each resample [B]; NaN where the model is never right."""

    value: float
    draws: FloatArray
    n: int

    def times(self, other: Kept) -> Kept:
        """Return the share that is left when two are lost one after the other, each measured on rows of its own."""
        return Kept(self.value * other.value, self.draws * other.draws, min(self.n, other.n))

    def interval(self, *, tried: int = 1) -> Interval:
        """Return the interval for a form that was chosen by measuring so many, from the resamples in which the share is known."""
        tail = DOUBT / tried / 2
        low, high = np.nanquantile(self.draws, [tail, 1 - tail])
        return Interval(float(low), float(high), self.n, tried)


def kept_of(whole: Sequence[Counts], form: Sequence[Counts], *, groups: IntArray | None = None, seed: int = 0) -> Kept | None:
    """Return macro-F1 of a form over that of the whole model.

    Args:
        whole: what the model said of N rows, counted by row and label [N, K], in one repeat or several.
        form: the same of the form.
        groups: which rows are drawn together [N], by number from 0; each by itself if left out.
        seed: of the resampling.

    Returns:
        the share; None where the model has a macro-F1 of 0, of which nothing can be kept.
    """
    n = len(whole[0].hits)
    member = np.arange(n) if groups is None else np.asarray(groups)
    full, less = ([_summed(one, member) for one in each] for each in (whole, form))
    everything = np.ones((1, len(full[0].hits)), np.float32)
    if not (base := _macro_f1(full, everything)[0]):
        return None
    draws = [_ratio(full, less, weights) for weights in _weights(len(full[0].hits), seed=seed)]
    return Kept(float(_macro_f1(less, everything)[0] / base), np.concatenate(draws), n)


def _summed(counts: Counts, member: IntArray) -> Counts:
    """Return the counts of groups [G, K]."""
    out = [np.zeros((member.max(initial=-1) + 1, part.shape[1]), np.float32) for part in counts]
    for total, part in zip(out, counts, strict=True):
        np.add.at(total, member, part)
    return Counts(*out)


def _weights(g: int, *, seed: int) -> Iterator[FloatArray]:
    """Yield how often each of G groups is drawn, in pieces of all resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, CHUNK):
        yield rng.multinomial(g, np.full(g, 1 / g), min(CHUNK, RESAMPLES - start)).astype(np.float32)


def _ratio(whole: Sequence[Counts], form: Sequence[Counts], weights: FloatArray) -> FloatArray:
    """Return the ratio in each resample [B]; NaN where the model is never right.

    Each resample keeps its place, so that shares of other rows can be multiplied with it.
    """
    base, other = _macro_f1(whole, weights), _macro_f1(form, weights)
    return np.asarray(np.divide(other, base, out=np.full(len(base), np.nan), where=base > 0))


def _macro_f1(repeats: Sequence[Counts], weights: FloatArray) -> FloatArray:
    """Return the mean over repeats of the macro-F1 of rows with these weights [B, G]: over the labels that occur, [B]."""
    found = []
    for counts in repeats:
        hits, both = weights @ counts.hits, weights @ (counts.true + counts.predicted)
        f1 = 2 * hits / np.maximum(both, 1)
        found.append(f1.sum(1) / np.maximum((both > 0).sum(1), 1))
    return np.asarray(np.mean(found, axis=0), float)
