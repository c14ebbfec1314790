"""Measures how varied a set of texts is, and how much of the real rows it covers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from refsynth.core.types import FloatArray
from refsynth.data.text import nearest_overlap
from refsynth.kinds.metrics import squared_distances
from refsynth.synthesis.selection.sanity import units

SAMPLE = 500

BLEU_ORDER = 4
"""The longest n-gram of self-BLEU."""

SMOOTHING = 0.1
"""Replaces a count of zero in self-BLEU (method 1 of Chen and Cherry, 2014)."""

NEAREST = 1
"""k of the coverage."""

Item = TypeVar("Item")


class DiversityFigures(NamedTuple):
    """Figures of `n` texts: lower overlap and self-BLEU, and higher distinct-n, mean more variety.

    Distinct-1 and distinct-2 (Li et al., 2016, section 5), self-BLEU-4 (Zhu et al., 2018, "Texygen"), and the mean overlap of a
    text with its nearest neighbor.
    """

    distinct_1: float
    distinct_2: float
    self_bleu: float
    nearest_overlap: float
    n: int


class CoverageFigures(NamedTuple):
    """Coverage of `n` real rows by `drafts` drafts, and its expected value for as many texts drawn like the real rows."""

    value: float
    expected: float
    k: int
    n: int
    drafts: int


def sample(items: Sequence[Item]) -> list[Item]:
    """Return at most `SAMPLE` items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(len(items), SAMPLE)).astype(int))]


def diversity(texts: Sequence[str]) -> DiversityFigures:
    """Return the figures of a `sample` of the texts. The size is fixed because distinct-n and self-BLEU depend on it.

    Args:
        texts: N texts, N > 0.
    """
    picked = sample(texts)
    words = [units(text) for text in picked]
    singles = [word for row in words for word in row]
    pairs = [pair for row in words for pair in itertools.pairwise(row)]
    overlap = [
        float(nearest_overlap([text], picked[:i] + picked[i + 1 :], language="en")[0]) for i, text in enumerate(picked[:100])
    ]
    return DiversityFigures(
        len(set(singles)) / max(1, len(singles)),
        len(set(pairs)) / max(1, len(pairs)),
        self_bleu(words),
        float(np.mean(overlap)),
        len(picked),
    )


def self_bleu(rows: Sequence[Sequence[str]]) -> float:
    """Return the mean BLEU of each row of words against all others, in [0, 1]; 0 for a single row.

    The two highest counts of each n-gram over all rows give the highest count over the *other* rows at once. This is linear in
    the number of words; counting the references again for each row would be quadratic.
    """
    counts = [[Counter(_grams(row, order)) for row in rows] for order in range(1, BLEU_ORDER + 1)]
    highest = [_two_highest(of_order) for of_order in counts]
    lengths = Counter(map(len, rows))
    scores = []
    for index, row in enumerate(rows):
        matched = [
            sum(min(count, _elsewhere(top[gram], count)) for gram, count in of_order[index].items())
            for of_order, top in zip(counts, highest, strict=True)
        ]
        others = [length for length, times in lengths.items() if times > (length == len(row))]
        scores.append(_bleu(matched, len(row), others))
    return float(np.mean(scores)) if scores else 0.0


def _bleu(matched: Sequence[int], length: int, references: Sequence[int]) -> float:
    """Return BLEU from the number of matched n-grams of each order, the length of the text and those of the references."""
    if not matched[0]:
        return 0.0
    shares = [(count or SMOOTHING) / max(1, length - start) for start, count in enumerate(matched)]
    closest = min(references, key=lambda other: (abs(other - length), other))
    return math.exp(sum(map(math.log, shares)) / len(shares) + min(0.0, 1 - closest / length))


def _grams(row: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(row[start:] for start in range(order)), strict=False))


def _two_highest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return the highest and the second highest count of each n-gram over the rows (0 if only one row has it)."""
    top: dict[tuple[str, ...], tuple[int, int]] = {}
    for row in counts:
        for gram, count in row.items():
            first, second = top.get(gram, (0, 0))
            top[gram] = (max(first, count), max(second, min(first, count)))
    return top


def _elsewhere(top: tuple[int, int], count: int) -> int:
    """Return the highest count in the other rows, for a row with `count`, from the two highest of all rows."""
    return top[1] if top[0] == count else top[0]


def coverage(real: FloatArray, drafts: FloatArray, *, k: int = NEAREST) -> CoverageFigures:
    """Return the share of real rows that have a draft nearer than their k-th nearest other real row.

    Naeem et al., 2020, "Reliable Fidelity and Diversity Metrics for Generative Models", section 3. For drafts from the
    distribution of the real rows its expected value is 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)).

    Args:
        real: embeddings [N, D], N > k.
        drafts: embeddings [M, D].
        k: which neighbor.
    """
    n, m = len(real), len(drafts)
    among = squared_distances(real, real)
    np.fill_diagonal(among, np.inf)
    radius = np.partition(among, k - 1, axis=1)[:, k - 1]
    covered = squared_distances(real, drafts).min(axis=1, initial=np.inf) < radius
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    return CoverageFigures(float(covered.mean()), expected, k, n, m)
