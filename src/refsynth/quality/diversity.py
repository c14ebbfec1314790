"""How varied a set of texts is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refsynth.data.text import nearest_overlap
from refsynth.quality.sanity import units

SAMPLE = 500


class DiversityFigures(NamedTuple):
    """Distinct-1 and distinct-2 (Li et al., 2016, section 5), and the mean overlap of a text with its nearest neighbour."""

    distinct_1: float
    distinct_2: float
    nearest_overlap: float
    n: int


def diversity(texts: Sequence[str]) -> DiversityFigures:
    """Return the figures for at most `SAMPLE` texts, evenly taken: distinct-n falls with the amount of text.

    Args:
        texts: N texts, N > 0.
    """
    picked = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, min(len(texts), SAMPLE)).astype(int))]
    words = [units(text) for text in picked]
    singles = [word for row in words for word in row]
    pairs = [pair for row in words for pair in itertools.pairwise(row)]
    overlap = [
        float(nearest_overlap([text], picked[:i] + picked[i + 1 :], language="en")[0]) for i, text in enumerate(picked[:100])
    ]
    return DiversityFigures(
        len(set(singles)) / max(1, len(singles)),
        len(set(pairs)) / max(1, len(pairs)),
        float(np.mean(overlap)),
        len(picked),
    )
