"""Batches of like length, in random order: padding is work too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refsynth.core.types import IntArray

WINDOW = 32
"""Batches that are sorted by length together: enough that their rows are of like length, few enough that they stay mixed."""


def bucketed(lengths: Sequence[int], *, size: int, seed: int) -> list[IntArray]:
    """Return all rows once, as batches of `size` rows (one may have fewer), of like length within a window of random rows.

    Args:
        lengths: tokens of each row [N].
        size: rows of a batch.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    order, tokens = rng.permutation(len(lengths)), np.asarray(lengths)
    batches = []
    for start in range(0, len(order), WINDOW * size):
        window = order[start : start + WINDOW * size]
        window = window[np.argsort(tokens[window], kind="stable")]
        batches += [window[first : first + size] for first in range(0, len(window), size)]
    return [batches[place] for place in rng.permutation(len(batches))]
