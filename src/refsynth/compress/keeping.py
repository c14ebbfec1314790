"""What a form keeps of the full model: its macro-F1 over the model's on the same rows, with an interval. Arrays only.

The interval is a percentile bootstrap (Efron, 1979) of the ratio: rows, or groups of rows that belong together, are drawn for
both at once, so that what makes a row hard for both cancels. A form that was chosen among M measured forms has its interval at
the level 1 - 0.05 / M (Bonferroni), so that all M hold together 95 times in 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds import Counts

RESAMPLES = 5000
CHUNK = 500
"""Resamples at a time, which bounds the memory of their weights [CHUNK, N]."""

DOUBT = 0.05


class Interval(NamedTuple):
    """The interval of a kept share, from `n` rows or texts, for a form that was chosen among `tried` measured ones."""

    low: float
    high: float
    n: int
    tried: int = 1

    @property
    def level(self) -> float:
        """The confidence of this interval alone."""
        return 1 - DOUBT / self.tried

    def __str__(self) -> str:
        together = f", 95% for all {self.tried} measured forms" if self.tried > 1 else ""
        return f"[{self.low:.1%}, {self.high:.1%}{together}]"


class Kept(NamedTuple):
    """A kept share, from `n` rows or texts, and its value in each resample [B]; NaN where the full model is never right."""

    value: float
    draws: FloatArray
    n: int

    def times(self, other: Kept) -> Kept:
        """Return the share kept after two losses in sequence, each measured on rows of its own."""
        return Kept(self.value * other.value, self.draws * other.draws, min(self.n, other.n))

    def interval(self, *, tried: int = 1) -> Interval:
        """Return the interval of a form that was chosen among `tried` measured ones; resamples with NaN are left out."""
        tail = DOUBT / tried / 2
        low, high = np.nanquantile(self.draws, [tail, 1 - tail])
        return Interval(float(low), float(high), self.n, tried)


def kept_of(whole: Sequence[Counts], form: Sequence[Counts], *, groups: IntArray | None = None, seed: int = 0) -> Kept | None:
    """Return the macro-F1 of a form over that of the full model.

    Args:
        whole: the counts of the full model by row and label [N, K], in one repeat or several.
        form: the same for the form.
        groups: numbers from 0 of the groups of rows that are drawn together [N]; by default each row alone.
        seed: the seed of the resampling.

    Returns:
        the kept share; None if the full model has a macro-F1 of 0.
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
    """Return the counts summed over groups [G, K]."""
    out = [np.zeros((member.max(initial=-1) + 1, part.shape[1]), np.float32) for part in counts]
    for total, part in zip(out, counts, strict=True):
        np.add.at(total, member, part)
    return Counts(*out)


def _weights(g: int, *, seed: int) -> Iterator[FloatArray]:
    """Yield how often each of G groups is drawn in each resample [b, G], in chunks of resamples."""
    rng = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, CHUNK):
        yield rng.multinomial(g, np.full(g, 1 / g), min(CHUNK, RESAMPLES - start)).astype(np.float32)


def _ratio(whole: Sequence[Counts], form: Sequence[Counts], weights: FloatArray) -> FloatArray:
    """Return the ratio in each resample [B]; NaN where the full model is never right, so that each resample keeps its place."""
    base, other = _macro_f1(whole, weights), _macro_f1(form, weights)
    return np.asarray(np.divide(other, base, out=np.full(len(base), np.nan), where=base > 0))


def _macro_f1(repeats: Sequence[Counts], weights: FloatArray) -> FloatArray:
    """Return the macro-F1 with these weights of groups [B, G], over the labels that occur, as the mean over repeats [B]."""
    means = []
    for counts in repeats:
        hits, both = weights @ counts.hits, weights @ (counts.true + counts.predicted)
        f1 = 2 * hits / np.maximum(both, 1)
        means.append(f1.sum(1) / np.maximum((both > 0).sum(1), 1))
    return np.asarray(np.mean(means, axis=0), float)
